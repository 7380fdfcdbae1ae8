from typing import Any

import pytest

from tests.cluster.provider.check import faults, named, unsupported
from tests.cluster.provider.values import UNKNOWN

URN = "urn:pulumi:test::sample::some:Component$kubernetes:apps/v1:Deployment::web"


def test_a_name_is_made_from_the_resources_and_the_engines_seed() -> None:
    first, again = (named({}, {}, URN, b"seed", None) for _ in range(2))
    assert first == again
    assert first["metadata"]["name"].startswith("web-")
    assert len(first["metadata"]["name"]) == len("web-") + 8
    assert first["metadata"]["annotations"] == {"pulumi.com/autonamed": "true"}
    assert (first["apiVersion"], first["kind"]) == ("apps/v1", "Deployment")
    assert named({}, {}, URN, b"other", None)["metadata"]["name"] != first["metadata"]["name"]


def test_a_name_that_was_made_once_is_kept() -> None:
    first = named({}, {}, URN, b"seed", None)
    assert named({}, first, URN, b"other", None)["metadata"]["name"] == first["metadata"]["name"]


def test_a_name_of_the_users_own_is_not_touched() -> None:
    own = named({"metadata": {"name": "own"}}, {}, URN, b"seed", None)
    assert own["metadata"] == {"name": "own"}
    # One that is given up is not adopted: it was no name of ours.
    assert named({}, own, URN, b"seed", None)["metadata"]["name"] != "own"


def test_the_name_that_the_engine_proposes_is_taken() -> None:
    assert named({}, {}, URN, b"seed", "web-prod")["metadata"]["name"] == "web-prod"


def test_a_name_that_is_not_known_yet_is_a_name() -> None:
    assert named({"metadata": {"name": UNKNOWN}}, {}, URN, b"seed", None)["metadata"] == {"name": UNKNOWN}


@pytest.mark.parametrize(
    ("inputs", "field", "words"),
    [
        ({"metadata": "web"}, "metadata", "must be an object"),
        ({"metadata": {"labels": {"version": 1}}}, "metadata.labels[version]", 'write "1"'),
        ({"metadata": {"annotations": {"on": True}}}, "metadata.annotations[on]", 'write "true"'),
        ({"metadata": {"labels": ["a"]}}, "metadata.labels", "a list"),
        ({"metadata": {"name": 5}}, "metadata.name", "must be a text"),
        ({"metadata": {"generateName": "web-"}}, "metadata.generateName", "server-side apply"),
        ({"spec": "none"}, "spec", "must be an object"),
        ({"kind": 1}, "kind", "must be a text"),
    ],
)
def test_what_is_no_object_is_refused(inputs: dict[str, Any], field: str, words: str) -> None:
    ((where, reason),) = faults(inputs, URN)
    assert where == field
    assert words in reason


def test_what_is_not_known_yet_is_not_refused() -> None:
    assert faults({"metadata": {"labels": UNKNOWN, "name": UNKNOWN}, "spec": UNKNOWN}, URN) == []
    assert faults({"metadata": UNKNOWN}, URN) == []


@pytest.mark.parametrize(
    "token", ["helm.sh/v3:Release", "yaml/v2:ConfigFile", "apps/v1:DeploymentPatch", "v1:PodList"]
)
def test_what_only_the_official_provider_does_is_refused(token: str) -> None:
    assert unsupported(f"urn:pulumi:test::sample::kubernetes:{token}::x")


def test_ordinary_kinds_are_not_refused() -> None:
    assert unsupported(URN) is None
