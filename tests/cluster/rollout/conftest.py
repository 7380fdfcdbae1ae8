"""One estate with a good version beside a bad one, and `estate rollout` on it."""

import base64
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.estate.conftest import cluster, reach  # noqa: F401  fixtures
from tests.cluster.estate.stack import NAME, ClusterStack
from tests.cluster.estate.tiny import ENDPOINT, seed
from tests.engine.local.load import Load
from tests.engine.local.tiny import request
from tests.engine.rollout import faults

HOST = f"{ENDPOINT}.models.internal"
VERSIONS = {"blue": 1, "good": 2, "failing": 3}

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

GOLDEN = [
    {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2, 4, 6]}],
    }
]


class Rollouts:
    """A stack on the cluster, and `estate rollout` on it."""

    def __init__(self, stack: ClusterStack, models: Path) -> None:
        self.stack = stack
        files = [
            faults.times(models / "one", 2),
            faults.times(models / "two", 2),
            faults.failing(models, 100),
            faults.times(models, 3),
        ]
        self._seed = seed(())
        registered = {ENDPOINT: [base64.b64encode(Path(file).read_bytes()).decode() for file in files]}
        self._seed["command"] = [*self._seed["command"][:-1], json.dumps(registered)]  # type: ignore[index]
        (stack.folder / "golden.json").write_text(json.dumps(GOLDEN))

    def configure(self, *variants: str, more: Mapping[str, Any] | None = None, **rollout: Any) -> None:
        """Write the stack file; `more`: further endpoints."""
        endpoint = {
            "variants": {name: {"model": f"models:/{ENDPOINT}/{VERSIONS[name]}"} for name in variants},
            "traffic": {"blue": 100},
            "resources": {"cpu": 0.05, "memory_mib": 384, "cache_gib": 1},
            "rollout": {**ROLLOUT, **rollout},
        }
        self.stack.configure(
            registry={"seed": self._seed, "storage_gib": 1},
            endpoints={ENDPOINT: endpoint, **(more or {})},
            kubernetes={"startup_s": 180},
        )

    def run(self, *words: str, code: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run `estate rollout` to its end."""
        program = str(Path(sys.prefix) / "bin" / "estate")
        done = subprocess.run(
            [program, "rollout", words[0], ENDPOINT, "--stack", NAME, *words[1:]],
            cwd=self.stack.folder,
            env=env or self.stack.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said
        return said

    def records(self) -> list[dict[str, Any]]:
        """The last rollout's, as any shell reads them."""
        every = [json.loads(line) for line in self.run("history", "--json").splitlines()]
        begun = [index for index, record in enumerate(every) if record["event"] == "started"]
        return every[begun[-1] :]

    def weights(self) -> dict[str, int]:
        variants = self.stack.outputs()["endpoints"][ENDPOINT]["variants"]
        return {name: one["weight"] for name, one in variants.items() if one["weight"]}


@pytest.fixture(scope="package")
def rollouts(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollouts]:  # noqa: F811
    """An estate of the package's own: `blue` has all requests."""
    stack = ClusterStack(cluster, f"rollout-{uuid.uuid4().hex[:6]}")
    try:
        made = Rollouts(stack, tmp_path_factory.mktemp("models"))
        made.configure("blue", "good")
        stack.up()
        yield made
    finally:
        stack.close()


@pytest.fixture
def load(
    rollouts: Rollouts,
    reach: Callable[[ClusterStack], str],  # noqa: F811
) -> Load:
    """Clients that ask all the time."""
    return Load(f"http://{reach(rollouts.stack)}", lambda: request({"host": HOST}), kept=4, new=1, pause=0.02)
