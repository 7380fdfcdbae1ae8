"""Renders an estate: every object that the cluster would be asked for, by kind and name."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pulumi
import pytest
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import run_pulumi_func

from components.spec import EstateSpec

_SECRET = "4dabf18193072939515e22adb298388d"  # marks a secret in Pulumi's wire format

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
        self.ignored: dict[tuple[str, str], list[str]] = {}
        """What changes of are left alone, by type and name of the resource."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        _name(args)
        self.asked.append(args)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"nothing is looked up: {args.token}")

    @property
    def objects(self) -> Objects:
        found: Objects = {}
        for args in self.asked:
            if args.typ.startswith("kubernetes:") and not args.typ.startswith("kubernetes:helm.sh"):
                manifest = _plain(args.inputs)
                key = (manifest["kind"], manifest["metadata"]["name"])
                assert key not in found, f"two objects are called {key}"
                found[key] = manifest
        return found


class Monitor(MockMonitor):
    """Keeps the options that mocks are not told of."""

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        recorder = self.mocks
        assert isinstance(recorder, Recorder)
        recorder.ignored[request.type, request.name] = list(request.ignoreChanges)
        return super().RegisterResource(request)


def _name(args: pulumi.runtime.MockResourceArgs) -> None:
    """Name an object that has no name, as the provider does: another one whenever it is another object."""
    metadata = args.inputs.get("metadata")
    if isinstance(metadata, dict) and "name" not in metadata:
        content = json.dumps(_plain(args.inputs), sort_keys=True)
        end = hashlib.sha256(content.encode()).hexdigest()[:8]
        args.inputs["metadata"] = {**metadata, "name": f"{args.name}-{end}"}


def _plain(value: Any) -> Any:
    """A value as the provider gets it: whole numbers are whole, secrets are what they hide."""
    if isinstance(value, dict):
        if _SECRET in value:
            return _plain(value["value"])
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def run(program: Callable[[], Any]) -> Recorder:
    """Run a program against mocks, and wait for all that it asks for."""
    recorder = Recorder()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def wanted() -> None:
        program()

    try:
        pulumi.runtime.set_mocks(
            recorder, project="serving", stack="test", preview=False, monitor=Monitor(recorder)
        )
        SETTINGS.rpc_manager.clear()
        SETTINGS.outputs.clear()
        loop.run_until_complete(run_pulumi_func(wanted))
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    return recorder


@pytest.fixture
def recorded() -> Callable[..., Recorder]:
    """What the provider is asked for by the stack above with some of its blocks replaced."""
    from components import Estate

    def ran(**blocks: Any) -> Recorder:
        spec = EstateSpec.model_validate(json.loads(json.dumps({**STACK, **blocks})))
        return run(lambda: Estate("estate", {"spec": spec}))

    return ran


@pytest.fixture
def render(recorded: Callable[..., Recorder]) -> Callable[..., Objects]:
    """The objects of that."""
    return lambda **blocks: recorded(**blocks).objects
