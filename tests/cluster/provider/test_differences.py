from typing import Any

import pytest

from tests.cluster.provider.differences import differences, forces_replacement, parsed, text, without
from tests.cluster.provider.values import UNKNOWN


def told(old: Any, new: Any) -> dict[str, str]:
    return {text(path): change for path, change in differences(old, new)}


def test_every_changed_field_is_named_as_deep_as_can_be() -> None:
    old = {"spec": {"containers": [{"image": "a", "args": ["x"]}], "paused": True}, "gone": {"a": 1}}
    new = {"spec": {"containers": [{"image": "b", "args": ["x", "y"]}], "paused": True}, "new": {}}
    assert told(old, new) == {
        "spec.containers[0].image": "update",
        "spec.containers[0].args[1]": "add",
        "gone": "delete",
        "new": "add",
    }


def test_names_with_dots_are_quoted_and_read_back() -> None:
    path = ("metadata", "annotations", "pulumi.com/skipAwait", 0, "a")
    assert text(path) == 'metadata.annotations["pulumi.com/skipAwait"][0].a'
    assert parsed(text(path)) == path


def test_what_is_not_known_yet_counts_as_changed() -> None:
    assert told({"a": "x"}, {"a": UNKNOWN}) == {"a": "update"}
    assert told({"a": UNKNOWN}, {"a": UNKNOWN}) == {"a": "update"}


def test_numbers_are_the_same_however_they_are_written_but_truth_is_not_a_number() -> None:
    assert told({"a": 1}, {"a": 1.0}) == {}
    assert told({"a": 1}, {"a": True}) == {"a": "update"}


def test_an_empty_rule_is_something() -> None:
    # In a NetworkPolicy this is the difference between nothing and everything.
    assert told({"ingress": []}, {"ingress": [{}]}) == {"ingress[0]": "add"}


def test_ignored_changes_are_left_out_with_all_below_them() -> None:
    changes = list(
        differences({"spec": {"a": {"x": 1}, "b": [1, 2]}}, {"spec": {"a": {"x": 2}, "b": [2, 3]}})
    )
    assert [text(path) for path, _ in without(changes, ["spec.a", "spec.b[*]"])] == []
    assert [text(path) for path, _ in without(changes, ["spec.b[0]"])] == ["spec.a.x", "spec.b[1]"]


def _object(api_version: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, **more}


@pytest.mark.parametrize(
    ("new", "path", "replaced"),
    [
        (_object("v1", "ConfigMap"), "metadata.name", True),
        (_object("v1", "Namespace"), "metadata.labels.a", False),
        (_object("apps/v1", "Deployment"), "spec.selector.matchLabels.app", True),
        (_object("apps/v1", "Deployment"), "spec.template.spec.containers[0].image", False),
        (_object("apps/v1", "StatefulSet"), "spec.volumeClaimTemplates[0].spec.resources", True),
        (_object("apps/v1", "StatefulSet"), "spec.replicas", False),
        (_object("batch/v1", "Job"), "spec.template.spec.containers[0].image", True),
        (_object("batch/v1", "Job"), "spec.ttlSecondsAfterFinished", False),
        (_object("v1", "Service"), "spec.clusterIP", True),
        (_object("v1", "Service"), "spec.ports[0].port", False),
        (_object("v1", "PersistentVolumeClaim"), "spec.storageClassName", True),
        (_object("v1", "PersistentVolumeClaim"), "spec.resources.requests.storage", False),
        (_object("v1", "Pod"), "spec.containers[0].image", True),
        (_object("v1", "Pod"), "spec.tolerations[0].key", False),
        (_object("rbac.authorization.k8s.io/v1", "RoleBinding"), "roleRef.name", True),
        (_object("example.com/v1", "Deployment"), "spec.selector.app", False),
    ],
)
def test_what_cannot_be_changed_is_replaced(new: dict[str, Any], path: str, replaced: bool) -> None:
    found = forces_replacement(parsed(path), "update", new, mutable_config_maps=False, mutable_secrets=False)
    assert found is replaced


@pytest.mark.parametrize(
    ("mutable", "immutable", "replaced"), [(False, False, True), (True, False, False), (True, True, True)]
)
def test_settings_are_replaced_unless_the_provider_may_change_them(
    mutable: bool, immutable: bool, replaced: bool
) -> None:
    # The official provider's choice: pods that name the object are then rolled, too.
    for kind in ("ConfigMap", "Secret"):
        new = _object("v1", kind, immutable=immutable)
        found = forces_replacement(
            ("data", "a"), "update", new, mutable_config_maps=mutable, mutable_secrets=mutable
        )
        assert found is replaced


def test_a_fixed_field_that_vanishes_with_its_object_counts() -> None:
    new = _object("apps/v1", "Deployment")
    assert forces_replacement(("spec",), "delete", new, mutable_config_maps=True, mutable_secrets=True)
    assert not forces_replacement(("spec",), "update", new, mutable_config_maps=True, mutable_secrets=True)
