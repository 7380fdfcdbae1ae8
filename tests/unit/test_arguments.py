"""Arguments of components: checked before anything is made, whatever language they come from."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest

from components.arguments import ArgumentsError, checked
from components.construct import _renamed, camel
from components.model_endpoint import ModelEndpointArgs
from components.model_registry import ModelRegistryArgs
from components.model_server import ModelServerArgs
from components.spec import Endpoint, EstateSpec, PlatformName, Registry, Runtime
from components.traffic_route import TrafficRouteArgs


@pytest.fixture(autouse=True)
def event_loop() -> Iterator[None]:
    """An `Output` wants a loop, and an earlier test's `asyncio.run` leaves none."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


BLUE = {"variants": {"blue": {"model": "/models/a.onnx"}}}


def problems(kind: Any, args: Any) -> dict[str, str]:
    with pytest.raises(ArgumentsError) as caught:
        checked(kind, args, "Thing x")
    return {".".join(map(str, path)): message for path, message in caught.value.problems}


def test_plain_values_become_what_the_types_say() -> None:
    args: Any = {"endpoint": BLUE, "platform": "local", "registry": None}
    assert checked(ModelEndpointArgs, args, "x") == {
        "endpoint": Endpoint.model_validate(BLUE),
        "platform": PlatformName.LOCAL,
    }
    assert checked(ModelServerArgs, {"model": "/x", "runtime": Runtime.BUNDLED, "replicas": 2}, "x") == {
        "model": "/x",
        "runtime": Runtime.BUNDLED,
        "replicas": 2,
    }


def test_outputs_pass_where_they_may() -> None:
    later = pulumi.Output.from_input("x")
    assert checked(ModelServerArgs, {"model": later}, "x")["model"] is later
    args: Any = {"gateway": later, "services": {"blue": later}, "endpoint": BLUE}
    assert checked(TrafficRouteArgs, args, "x")["services"]["blue"] is later


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({}, {"model": "is required"}),
        ({"model": 3}, {"model": "must be text, got 3"}),
        ({"model": "x", "replicas": True}, {"replicas": "must be a whole number, got true"}),
        (
            {"model": "x", "platform": "locl"},
            {"platform": "must be `local` or `kubernetes`, got 'locl' (did you mean `local`?)"},
        ),
        ({"model": "x", "runtime": ["a"]}, {"runtime": "must be `bundled`, got [a]"}),
    ],
)
def test_a_wrong_argument_is_explained(args: dict[str, Any], told: dict[str, str]) -> None:
    assert problems(ModelServerArgs, args) == told


def test_an_unknown_argument_is_explained() -> None:
    (message,) = problems(ModelServerArgs, {"model": "x", "replica": 2}).values()
    assert message.startswith("unknown argument (did you mean `replicas`?); the arguments are model, ")


def test_a_block_that_waits_for_another_resource_is_explained() -> None:
    waiting = {"variants": {"blue": {"model": pulumi.Output.from_input("x")}}}
    (message,) = problems(ModelEndpointArgs, {"endpoint": waiting}).values()
    assert message == "must be known before anything is made; it is the output of another resource"


def test_the_faults_of_blocks_and_maps_are_told_with_their_paths() -> None:
    args = {"gateway": 1, "services": {"blue": 2}, "endpoint": {**BLUE, "retries": 99}}
    assert problems(TrafficRouteArgs, args) == {
        "gateway": "must be text, got 1",
        "services.blue": "must be text, got 2",
        "endpoint.retries": "must be between 0 and 10 tries, got 99",
    }
    assert problems(TrafficRouteArgs, {"gateway": "g", "services": [], "endpoint": BLUE}) == {
        "services": "must be a block of names, each with its value, got []"
    }


@pytest.mark.parametrize("args", [None, [], "x", 1])
def test_arguments_that_are_no_map_are_explained(args: Any) -> None:
    assert "the arguments must be a map" in problems(ModelRegistryArgs, args)[""]


def test_the_message_names_the_component() -> None:
    with pytest.raises(pulumi.RunError) as caught:
        checked(ModelRegistryArgs, {"spec": {"uri": "x"}}, "ModelRegistry models")  # type: ignore[typeddict-item]
    assert str(caught.value) == (
        "ModelRegistry models cannot be made:\n"
        "  spec.uri: must be an http:// or https:// address, got 'x'; e.g. https://mlflow.example.com"
    )
    assert checked(ModelRegistryArgs, {"spec": Registry()}, "x") == {"spec": Registry()}


def test_names_of_other_languages_become_those_of_the_specification() -> None:
    assert camel("timeout_ms") == "timeoutMs"
    sent = {
        "platform": "local",
        "registry": {"seed": {"command": ["a"], "timeoutS": 5.0}},
        "endpoints": {"a-b": {"timeoutMs": 5.0, "unknownOne": 1, "variants": {"timeoutMs": {"model": "x"}}}},
    }
    assert _renamed(EstateSpec, sent) == {
        "platform": "local",
        "registry": {"seed": {"command": ["a"], "timeout_s": 5}},
        "endpoints": {"a-b": {"timeout_ms": 5, "unknownOne": 1, "variants": {"timeoutMs": {"model": "x"}}}},
    }
