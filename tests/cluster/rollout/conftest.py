"""One estate with a good version beside bad ones, and `estate rollout` on it."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.estate import files
from tests.cluster.estate.conftest import cluster, reach  # noqa: F401  fixtures
from tests.cluster.estate.stack import NAME, ClusterStack
from tests.cluster.estate.tiny import ENDPOINT
from tests.engine.local.load import Load
from tests.engine.local.tiny import request
from tests.engine.rollout import faults

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

GOLDEN = [
    {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2, 4, 6]}],
    }
]


def versions(models: Path) -> dict[str, Path]:
    """The versions of the model, as files in a folder: by the names that variants have for them."""
    made = {
        "blue": faults.times(models / "one", 2),
        "good": faults.times(models / "two", 2),
        "failing": faults.failing(models, 100),
        "brittle": faults.failing(models, 501),  # requests have numbers up to 1000
        "leaking": faults.growing(models, 0, 16_000),
        "triple": faults.times(models, 3),
    }
    return {name: Path(file) for name, file in made.items()}


class Rollouts:
    """A stack on the cluster, and `estate rollout` on it."""

    def __init__(self, stack: ClusterStack, models: str) -> None:
        """`models`: the address of the folder with the versions."""
        self.stack, self._models = stack, models
        self.begun: list[subprocess.Popen[bytes]] = []
        (stack.folder / "golden.json").write_text(json.dumps(GOLDEN))

    def model(self, version: str) -> str:
        """The address of a version of the model."""
        return f"{self._models}/{version}.onnx"

    def configure(self, *variants: str, more: Mapping[str, Any] | None = None, **rollout: Any) -> None:
        """Write the stack file; `more`: further endpoints."""
        endpoint = {
            "variants": {name: {"model": self.model(name)} for name in variants},
            "traffic": {"blue": 100},
            "resources": RESOURCES,
            "rollout": {**ROLLOUT, **rollout},
        }
        self.stack.configure(
            endpoints={ENDPOINT: endpoint, **(more or {})},
            kubernetes={"startup_s": 180, "drain_s": 5},
        )

    def _command(self, *words: str) -> list[str]:
        program = str(Path(sys.prefix) / "bin" / "estate")
        return [program, "rollout", words[0], ENDPOINT, "--stack", NAME, *words[1:]]

    def run(self, *words: str, code: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run `estate rollout` to its end."""
        done = subprocess.run(
            self._command(*words),
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

    def start(self, candidate: str, until: str, **fields: Any) -> "subprocess.Popen[bytes]":
        """Begin a rollout in a process group of its own; wait for a record `until` with these fields."""
        before = self.records()[:1]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._command("start", "--to", candidate),
                cwd=self.stack.folder,
                env=self.stack.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self.begun.append(process)

        def seen() -> bool:
            records = self.records()
            return records[:1] != before and any(
                record["event"] == until and fields.items() <= record.items() for record in records
            )

        self.wait_for(seen, f"a record `{until}` of the rollout to {candidate}")
        return process

    @property
    def _log(self) -> Path:
        return self.stack.home / "estate.log"

    def end(self) -> None:
        """Kill the drivers that a test has left."""
        for process in self.begun:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.begun.clear()

    def wait_for(self, true: Callable[[], Any], what: str, seconds: float = 180) -> Any:
        """Wait for something; what the drivers said is shown where it does not come."""
        deadline = time.monotonic() + seconds
        while not (value := true()):
            said = self._log.read_text() if self._log.exists() else ""
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s\n{said}"
            time.sleep(0.1)
        return value

    def records(self) -> list[dict[str, Any]]:
        """The last rollout's, as they are in the cluster."""
        maps = self.stack.kubectl("get", "configmaps", f"--selector=serving-estate/journal={ENDPOINT}")
        ordered = sorted(maps["items"], key=lambda one: int(one["metadata"]["name"].rpartition("-")[2]))
        every = [json.loads(text) for one in ordered for _, text in sorted(one["data"].items())]
        begun = [index for index, record in enumerate(every) if record["event"] == "started"]
        return every[begun[-1] :] if begun else []

    def record(self, event: str) -> dict[str, Any]:
        """The last record of an event."""
        return [record for record in self.records() if record["event"] == event][-1]

    def weights(self) -> dict[str, int]:
        """What the stack says."""
        variants = self.stack.outputs()["endpoints"][ENDPOINT]["variants"]
        return {name: one["weight"] for name, one in variants.items() if one["weight"]}

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
