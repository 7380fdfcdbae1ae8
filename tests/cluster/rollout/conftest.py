"""One estate with a good version beside bad ones, and `estate rollout` on it."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.estate import files
from tests.cluster.estate.conftest import cluster, reach  # noqa: F401  fixtures
from tests.cluster.estate.stack import ClusterStack
from tests.cluster.estate.tiny import ENDPOINT
from tests.engine.local.load import Load
from tests.engine.local.tiny import request
from tests.engine.rollout import faults
from tests.engine.rollout.driven import Driven, last_of

HOST = f"{ENDPOINT}.models.internal"
RESOURCES = {"cpu": 0.05, "memory_mib": 384, "cache_gib": 1}

ROLLOUT: dict[str, Any] = {
    "steps": [{"percent": 5}, {"percent": 25}, {"percent": 100}],
    "min_samples": 30,
    "max_time_s": 420,
    "analysis": {
        # Few requests, of a machine that does other things as well: the limits are wide.
        "errors": {"max_increase": 15},
        "latency": {"quantile": 0.5, "max_ratio": 10, "slack_ms": 1000},
        "golden": "golden.json",
    },
}


def versions(models: Path) -> dict[str, Path]:
    """The versions of the model, as files in a folder: by the names that variants have for them."""
    made = {
        "blue": faults.times(models / "one", 2),
        "good": faults.times(models / "two", 2),
        "failing": faults.failing(models, 100),
        "brittle": faults.failing(models, 501),  # requests have numbers up to 1000
        "leaking": faults.growing(models, 0, 16_000),
        "triple": faults.times(models, 3),
        "drifting": faults.drifting(models, 501, -2),
    }
    return {name: Path(file) for name, file in made.items()}


class Rollouts(Driven):
    """A stack on the cluster, and `estate rollout` on it."""

    def __init__(self, stack: ClusterStack, models: str) -> None:
        """`models`: the address of the folder with the versions."""
        super().__init__(stack)
        self._models = models

    def model(self, version: str) -> str:
        """The address of a version of the model."""
        return f"{self._models}/{version}.onnx"

    def configure(
        self,
        *variants: str,
        more: Mapping[str, Any] | None = None,
        shadow: Mapping[str, Any] | None = None,
        **rollout: Any,
    ) -> None:
        """Write the stack file; `more`: further endpoints; `shadow`: of this one."""
        endpoint = {
            **({"shadow": shadow} if shadow else {}),
            "variants": {name: {"model": self.model(name)} for name in variants},
            "traffic": {next(name for name in variants if shadow is None or name != shadow["variant"]): 100},
            "resources": RESOURCES,
            "rollout": {**ROLLOUT, **rollout},
        }
        self.stack.configure(
            endpoints={ENDPOINT: endpoint, **(more or {})},
            kubernetes={"startup_s": 180, "drain_s": 5},
        )

    def records(self) -> list[dict[str, Any]]:
        """The last rollout's, as they are in the cluster."""
        maps = self.stack.kubectl("get", "configmaps", f"--selector=serving-estate/journal={ENDPOINT}")
        ordered = sorted(maps["items"], key=lambda one: int(one["metadata"]["name"].rpartition("-")[2]))
        every = [json.loads(text) for one in ordered for _, text in sorted(one["data"].items())]
        return last_of(every)

    def idle(self) -> str:
        """The one of the two good variants that has no requests."""
        return "blue" if self.weights() == {"good": 100} else "good"

    def routed(self) -> dict[str, int]:
        """What the route says: the part of each variant that has one; they need not add up to 100."""
        (rule, *_) = self.stack.kubectl("get", "httproute", ENDPOINT)["spec"]["rules"]
        shares = {one["name"].removeprefix(f"{ENDPOINT}-"): one["weight"] for one in rule["backendRefs"]}
        return {name: share for name, share in shares.items() if share}


@pytest.fixture(scope="package")
def rollouts(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollouts]:  # noqa: F811
    """An estate of the package's own: `blue` has all requests."""
    stack = ClusterStack(cluster, f"rollout-{uuid.uuid4().hex[:6]}")
    namespace = f"files-{uuid.uuid4().hex[:6]}"
    made: Rollouts | None = None
    try:
        stack.run("create", "namespace", namespace)
        contents = versions(tmp_path_factory.mktemp("models"))
        models = files.serve(
            cluster, namespace, {f"{name}.onnx": file.read_bytes() for name, file in contents.items()}
        )
        made = Rollouts(stack, models)
        made.configure("blue", "good")
        stack.up()
        yield made
    finally:
        if made:
            made.end()
        # What a driver was granted where the gateway's proxies are is no part of the stack.
        proxies = ("--namespace=envoy-gateway-system", "--ignore-not-found")
        stack.run("delete", "role,rolebinding", "driver-proxies", *proxies)
        stack.close()
        stack.run("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


@pytest.fixture
def gateway(
    rollouts: Rollouts,
    reach: Callable[[ClusterStack], str],  # noqa: F811
) -> Iterator[str]:
    """The address of the gateway; drivers of a test end with it."""
    yield f"http://{reach(rollouts.stack)}"
    rollouts.end()
    records = rollouts.records()
    if records and records[-1]["event"] != "finished":  # of a test that failed: the next ones begin anew
        rollouts.run("abort")


@pytest.fixture
def load(gateway: str) -> Load:
    """Clients that ask all the time."""
    return Load(gateway, lambda: request({"host": HOST}), kept=4, new=1, pause=0.02)
