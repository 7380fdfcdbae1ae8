"""The objects that the components ask for, from a run against Pulumi's mocks, for the program by hand."""

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime.stack import run_pulumi_func

from .programs import components


def write(endpoints: int, file: Path) -> int:
    """Write them; how many there are."""
    asked: list[Any] = []

    class Recorder(pulumi.runtime.Mocks):
        def new_resource(self, args: Any) -> tuple[str, Any]:
            asked.append(args)
            made = args.inputs
            if args.typ.startswith("kubernetes:") and "name" not in made["metadata"]:
                # As the provider of the benchmark does, since other objects refer to it.
                text = json.dumps(made, sort_keys=True)
                name = f"{args.name}-{sha256(text.encode()).hexdigest()[:8]}"
                made = {**made, "metadata": {**made["metadata"], "name": name}}
            return f"{args.name}-id", made

        def call(self, args: Any) -> Any:
            raise NotImplementedError(args.token)

    async def run() -> None:
        components(endpoints)

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pulumi.runtime.set_mocks(Recorder(), project="bench", stack="bench", preview=False)
    loop.run_until_complete(run_pulumi_func(run))
    objects = [args for args in asked if args.typ.startswith("kubernetes:")]
    named = [(f"{args.name}-{at}", _whole(args.inputs)) for at, args in enumerate(objects)]
    file.write_text(json.dumps(named))
    return len(named)


def _whole(value: Any) -> Any:
    """A value as it was before it travelled: whole numbers are whole."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
