"""Renders an estate: every object that the cluster would be asked for, by kind and name."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import run_pulumi_func

from components.spec import EstateSpec

Objects = dict[tuple[str, str], dict[str, Any]]
"""Manifests by kind and name."""

STACK: dict[str, Any] = {
    "platform": "kubernetes",
    "registry": {},
    "endpoints": {
        "digits": {
            "variants": {"blue": {"model": "models:/digits/1"}, "green": {"model": "models:/digits/2"}},
            "traffic": {"blue": 90, "green": 10},
        }
    },
}


class Recorder(pulumi.runtime.Mocks):
    """Answers as the provider would, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[pulumi.runtime.MockResourceArgs] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.asked.append(args)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"nothing is looked up: {args.token}")

    @property
    def objects(self) -> Objects:
        found: Objects = {}
        for args in self.asked:
            if args.typ.startswith("kubernetes:"):
                manifest = dict(args.inputs)
                key = (manifest["kind"], manifest["metadata"]["name"])
                assert key not in found, f"two objects are called {key}"
                found[key] = manifest
        return found


def run(program: Callable[[], Any]) -> Recorder:
    """Run a program against mocks, and wait for all that it asks for."""
    recorder = Recorder()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def wanted() -> None:
        program()

    try:
        pulumi.runtime.set_mocks(recorder, project="serving", stack="test", preview=False)
        SETTINGS.rpc_manager.clear()
        SETTINGS.outputs.clear()
        loop.run_until_complete(run_pulumi_func(wanted))
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    return recorder


@pytest.fixture
def render() -> Iterator[Callable[..., Objects]]:
    """The objects of the stack above with some of its blocks replaced."""
    from components import Estate

    def rendered(**blocks: Any) -> Objects:
        spec = EstateSpec.model_validate(json.loads(json.dumps({**STACK, **blocks})))
        return run(lambda: Estate("estate", {"spec": spec})).objects

    yield rendered
