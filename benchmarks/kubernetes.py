"""What the components cost beside hand-written objects: `python -m benchmarks.kubernetes`.

Both programs ask for the same objects, against Pulumi's mocks: what is measured is the program, in CPU
seconds and memory, without engine, provider and cluster, which do the same for both. The hand-written one
takes the manifests that the components make and declares each with the class that `pulumi_kubernetes` has.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "kubernetes.md"
SIZES = (10, 100, 1000)
ROUNDS = 3


def stack(endpoints: int) -> dict[str, Any]:
    """An estate of so many endpoints with two variants each."""
    block = {
        "variants": {"blue": {"model": "s3://models/1"}, "green": {"model": "s3://models/2"}},
        "traffic": {"blue": 90, "green": 10},
        "scaling": {"min": 2},
    }
    return {
        "platform": "kubernetes",
        "kubernetes": {"namespace": "serving"},
        "endpoints": {f"endpoint-{number}": block for number in range(endpoints)},
    }


def recorded(program: Callable[[], object]) -> list[Any]:
    """What a program asks for, run against mocks."""
    import pulumi
    from pulumi.runtime.stack import run_pulumi_func

    asked: list[Any] = []

    class Recorder(pulumi.runtime.Mocks):
        def new_resource(self, args: Any) -> tuple[str, Any]:
            asked.append(args)
            return f"{args.name}-id", args.inputs

        def call(self, args: Any) -> Any:
            raise NotImplementedError(args.token)

    async def run() -> None:
        program()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pulumi.runtime.set_mocks(Recorder(), project="bench", stack="bench", preview=False)
    loop.run_until_complete(run_pulumi_func(run))
    return asked


def components(endpoints: int) -> list[Any]:
    """The estate."""
    from components import Estate
    from components.spec import EstateSpec, validate

    return recorded(lambda: Estate("estate", {"spec": validate(EstateSpec, stack(endpoints))}))


def hand_written(manifests: Path) -> list[Any]:
    """The same objects, each by its class; those without one by `CustomResource`."""
    import pulumi_kubernetes as k8s
    from pulumi_kubernetes.apiextensions import CustomResource

    classes = {
        ("apps/v1", "Deployment"): k8s.apps.v1.Deployment,
        ("v1", "Service"): k8s.core.v1.Service,
        ("v1", "ServiceAccount"): k8s.core.v1.ServiceAccount,
        ("v1", "ConfigMap"): k8s.core.v1.ConfigMap,
        ("networking.k8s.io/v1", "NetworkPolicy"): k8s.networking.v1.NetworkPolicy,
        ("policy/v1", "PodDisruptionBudget"): k8s.policy.v1.PodDisruptionBudget,
    }
    snake = {"automountServiceAccountToken": "automount_service_account_token"}

    def program() -> None:
        for name, manifest in json.loads(manifests.read_text()):
            kind = manifest.pop("apiVersion"), manifest.pop("kind")
            if kind in classes:
                classes[kind](name, **{snake.get(key, key): value for key, value in manifest.items()})
            else:
                CustomResource(name, *kind, **manifest)

    return recorded(program)


def whole(value: Any) -> Any:
    """A value as it was before it travelled: whole numbers are whole."""
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def child(what: str, argument: str) -> None:
    """One measurement, in a process of its own."""
    began = time.process_time()
    asked = components(int(argument)) if what == "components" else hand_written(Path(argument))
    cpu = time.process_time() - began
    objects = [args for args in asked if args.typ.startswith("kubernetes:")]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu": cpu, "memory": memory, "objects": len(objects)}))


def measured(what: str, argument: str) -> Mapping[str, float]:
    """The best of some rounds: what others do on the machine only adds."""
    runs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.kubernetes", "--child", what, argument],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for _ in range(ROUNDS)
    ]
    return {key: min(run[key] for run in runs) for key in runs[0]}


def main() -> int:
    """Measure all sizes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    chosen = parser.parse_args()
    if chosen.child:
        child(*chosen.child)
        return 0
    lines = [
        "# The components beside hand-written objects",
        "",
        "Made by `python -m benchmarks.kubernetes`. The program alone, against mocks; imports included.",
        "",
        "| endpoints | objects | components: CPU s | MiB | hand-written: CPU s | MiB | CPU, ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in chosen.sizes:
        asked = [args for args in components(size) if args.typ.startswith("kubernetes:")]
        manifests = RESULT.with_suffix(".raw.json")
        manifests.write_text(
            json.dumps([(f"{args.name}-{at}", whole(args.inputs)) for at, args in enumerate(asked)])
        )
        ours, theirs = measured("components", str(size)), measured("hand-written", str(manifests))
        if ours["objects"] != theirs["objects"]:
            raise SystemExit(f"not the same objects: {ours['objects']:g} and {theirs['objects']:g}")
        manifests.unlink()
        lines.append(
            f"| {size} | {ours['objects']:g} | {ours['cpu']:.2f} | {ours['memory']:.0f} "
            f"| {theirs['cpu']:.2f} | {theirs['memory']:.0f} | {ours['cpu'] / theirs['cpu']:.2f} |"
        )
        print(lines[-1], flush=True)
    RESULT.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
