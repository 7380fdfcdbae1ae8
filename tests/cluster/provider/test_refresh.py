import base64
from typing import Any

from tests.cluster.provider.refresh import ignoring, observed, pruned, same


def test_what_the_server_writes_otherwise_is_no_change() -> None:
    inputs = {"spec": {"cpu": "1000m", "items": [{"name": "a"}]}}
    live = {"spec": {"cpu": "1", "items": [{"name": "a", "default": 1}], "added": True}}
    assert observed(inputs, live, live) == inputs


def test_a_hand_edit_is_seen_and_nothing_else() -> None:
    inputs = {"spec": {"cpu": "1000m", "replicas": 2}}
    live = {"spec": {"cpu": "1", "replicas": 5}}
    applied = {"spec": {"cpu": "1", "replicas": 2}}
    assert observed(inputs, live, applied) == {"spec": {"cpu": "1000m", "replicas": 5}}


def test_a_field_that_was_removed_by_hand_is_missing() -> None:
    inputs = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    live = {"metadata": {"labels": {"a": "1"}}}
    applied = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    assert observed(inputs, live, applied) == {"metadata": {"labels": {"a": "1"}}}


def test_a_field_that_the_server_never_shows_is_kept() -> None:
    assert observed({"spec": {"hint": 1}}, {"spec": {}}, {"spec": {}}) == {"spec": {"hint": 1}}


def test_a_container_that_somebody_injected_is_no_change() -> None:
    inputs = {"containers": [{"name": "a", "image": "x"}]}
    live = {"containers": [{"name": "a", "image": "x"}, {"name": "sidecar"}]}
    assert observed(inputs, live, live) == inputs


def test_a_secret_written_as_text_is_compared_as_text() -> None:
    def secret(password: str) -> dict[str, Any]:
        return {"kind": "Secret", "data": {"pw": base64.b64encode(password.encode()).decode()}}

    inputs = {"kind": "Secret", "stringData": {"pw": "right"}}
    assert observed(inputs, secret("right"), secret("right")) == inputs
    assert observed(inputs, secret("wrong"), secret("right"))["stringData"] == {"pw": "wrong"}


def test_pruning_keeps_only_the_fields_of_the_inputs() -> None:
    live = {"a": 1, "b": {"c": 2, "d": 3}, "e": [{"f": 1, "g": 2}]}
    assert pruned(live, {"b": {"c": 0}, "e": [{"f": 0}]}) == {"b": {"c": 2}, "e": [{"f": 1}]}


def _managed(**by: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"manager": name, "operation": "Apply" if name == "us" else "Update", "fieldsV1": fields}
        for name, fields in by.items()
    ]


def test_an_ignored_field_of_others_is_left_to_them() -> None:
    live = {
        "metadata": {
            "managedFields": _managed(us={"f:spec": {"f:a": {}}}, hpa={"f:spec": {"f:replicas": {}}})
        },
        "spec": {"a": 1, "replicas": 7},
    }
    inputs = {"spec": {"a": 2, "replicas": 3}}
    ignoring(inputs, live, [("spec", "replicas")], "us")
    assert inputs == {"spec": {"a": 2}}


def test_an_ignored_field_that_is_ours_keeps_its_live_value() -> None:
    live = {
        "metadata": {"managedFields": _managed(us={"f:spec": {"f:replicas": {}}})},
        "spec": {"replicas": 7},
    }
    inputs = {"spec": {"replicas": 3}}
    ignoring(inputs, live, [("spec", "replicas")], "us")
    assert inputs == {"spec": {"replicas": 7}}


def test_applying_changed_nothing_if_neither_fields_nor_their_owner_changed() -> None:
    before = {"metadata": {"resourceVersion": "1", "managedFields": _managed(us={"f:a": {}})}, "a": 1}
    after = {"metadata": {"resourceVersion": "2", "managedFields": _managed(us={"f:a": {}})}, "a": 1}
    assert same(before, after, "us")
    assert not same(before, {**after, "a": 2}, "us")
    more = {**after, "metadata": {"managedFields": _managed(us={"f:a": {}, "f:b": {}})}}
    assert not same(before, more, "us")
