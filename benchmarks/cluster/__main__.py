"""Many endpoints on a real API server, beside `kubectl apply` of the very same objects.

`python -m benchmarks.cluster [ENDPOINTS]` needs the cluster of `make cluster`, with its kubectl on PATH.
Nodes and pods are played by kwok, so what is measured is who asks for them: preview, first `up`, one changed
weight, destroy, and the most memory that Pulumi, the program and the provider together take.
"""

import copy
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.estate.stack import ClusterStack
from toolchain.cluster import layout

RESULT = Path(__file__).parent / "results" / "cluster.md"
NODES, PODS = 10, 100
POOL = "bench"


def estate(endpoints: int, first: int) -> dict[str, Any]:
    """A stack file; `first` is the share of the first endpoint's first variant."""

    def endpoint(number: int) -> dict[str, Any]:
        blue = first if number == 0 else 90
        return {
            "variants": {name: {"model": f"s3://models/{number}/{name}"} for name in ("blue", "green")},
            "traffic": {"blue": blue, "green": 100 - blue},
            "resources": {"cpu": 0.1, "memory_mib": 128},
            "placement": {
                "node_labels": {"pool": POOL},
                "tolerations": [{"key": "kwok.x-k8s.io/node", "value": "fake"}],
            },
        }

    return {"endpoints": {f"e{number}": endpoint(number) for number in range(endpoints)}}


def nodes(stack: ClusterStack) -> None:
    """Nodes that kwok plays; they go with the stack."""
    resources = {"cpu": "64", "memory": "512Gi", "pods": str(PODS)}
    for number in range(NODES):
        stack.fake_node(
            f"{POOL}-{number}",
            resources,
            labels={"pool": POOL},
            taint={"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"},
        )


class Memory:
    """The most memory that this process' descendants took together, in MiB."""

    def __init__(self) -> None:
        self.most = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.most = max(self.most, sum(_proportional(pid) for pid in _descendants(os.getpid())))


def _descendants(root: int) -> Iterator[int]:
    try:
        children = "".join(file.read_text() for file in Path(f"/proc/{root}/task").glob("*/children")).split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from _descendants(child)


def _proportional(pid: int) -> float:
    """A process' memory with its part of what is shared, in MiB."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


@contextmanager
def measured(name: str, rows: list[str]) -> Iterator[None]:
    """Time a step, and write it down."""
    began = time.monotonic()
    with Memory() as memory:
        yield
    rows.append(f"| {name} | {time.monotonic() - began:.1f} | {memory.most:.0f} |")
    print(rows[-1], flush=True)


def objects(stack: ClusterStack) -> list[dict[str, Any]]:
    """What the program asked the cluster for, as manifests, in the order of the state."""
    state = json.loads(stack.pulumi("stack", "export", "--stack", "test"))
    found = [
        copy.deepcopy(one["inputs"])
        for one in state["deployment"]["resources"]
        if one["type"].startswith("kubernetes:")
    ]
    return [{key: part for key, part in one.items() if not key.startswith("__")} for one in found]


def elsewhere(found: list[dict[str, Any]], old: str, new: str) -> str:
    """The same manifests in another namespace."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": found}).replace(old, new)


def kubectl(*words: str, stdin: str | None = None) -> None:
    """Run kubectl on the cluster."""
    command = ["kubectl", f"--kubeconfig={layout.KUBECONFIG}", *words]
    subprocess.run(command, input=stdin, text=True, check=True, stdout=subprocess.DEVNULL)


def by_hand(first: str, second: str, namespace: str, rows: list[str]) -> None:
    """`kubectl apply` of the objects, until every Deployment is there, and of one that changed."""
    apply = ("apply", "--server-side", "--filename=-")
    available = ("wait", "deployment", "--all", "--for=condition=Available", "--timeout=900s")
    try:
        with measured("kubectl apply, and wait", rows):
            kubectl(*apply, stdin=first)
            kubectl(*available, f"--namespace={namespace}")
        with measured("kubectl apply, one weight changed", rows):
            kubectl(*apply, stdin=second)
    finally:
        with measured("kubectl delete namespace", rows):
            kubectl("delete", "namespace", namespace, "--timeout=900s")


def main() -> None:
    """Measure, and keep the table."""
    endpoints = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rows: list[str] = []
    stack = ClusterStack(layout.KUBECONFIG, f"bench-{os.getpid()}", lean=False)
    # A backend of files writes all of the state, megabytes, before and after each of thousands of steps: 34
    # GB in the first eleven minutes of 200 endpoints.
    stack.env |= {"PULUMI_EXPERIMENTAL": "1", "PULUMI_SKIP_CHECKPOINTS": "1"}
    up: Callable[..., str] = stack.up
    try:
        nodes(stack)
        stack.configure(**estate(endpoints, 90))
        with measured("pulumi preview", rows):
            stack.pulumi("preview", "--stack", "test", seconds=1800)
        with measured("pulumi up", rows):
            up(seconds=3600)
        before = objects(stack)
        with measured("pulumi up, no change", rows):
            up("--expect-no-changes", seconds=1800)
        stack.configure(**estate(endpoints, 50))
        with measured("pulumi up, one weight changed", rows):
            up(seconds=1800)
        after = objects(stack)
        with measured("pulumi destroy", rows):
            stack.pulumi("destroy", "--yes", "--skip-preview", "--stack", "test", seconds=3600)
        other = f"{stack.namespace}-by-hand"
        by_hand(
            elsewhere(before, stack.namespace, other), elsewhere(after, stack.namespace, other), other, rows
        )
    finally:
        stack.close()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(report(endpoints, len(before), rows))


def report(endpoints: int, number: int, rows: list[str]) -> str:
    """The table with what it is of."""
    head = f"""# Many endpoints on a real API server

Made by `python -m benchmarks.cluster {endpoints}`: {endpoints} endpoints of two variants, {number} objects,
on the cluster of `make cluster` ({os.cpu_count()} cores for everything); nodes and pods are played by kwok.
`kubectl apply --server-side` makes the very same objects in another namespace, in the same run. The
stand-in provider is measured, not the official one; the engine writes its state at the end of a run only
(`PULUMI_SKIP_CHECKPOINTS`), as a backend of files would write all of it at each of thousands of steps. Read
the ratios.

| step | s | MiB at most |
|---|---|---|
"""
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
