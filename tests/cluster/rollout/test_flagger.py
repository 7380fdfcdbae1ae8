"""Flagger itself, with the gate: it moves the weights of a real gateway as far as the evidence lets it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.estate.stack import ClusterStack
from tests.cluster.rollout.conftest import RESOURCES, ROLLOUT, Rollouts
from tests.engine.local.load import Load, Request
from tests.engine.local.tiny import request
from toolchain.cluster import binaries

NAME = "gated"
HOST = f"{NAME}.models.internal"
LABEL = "-selector-labels=app.kubernetes.io/instance"


@pytest.fixture(scope="module")
def gate(rollouts: Rollouts) -> Iterator[str]:
    """The gate and Flagger, as processes of this machine; the address of the gate."""
    module = next(module for module in binaries.EXTRAS if module.name == "flagger")
    program = binaries.folder(module) / "flagger"
    if not program.exists():
        pytest.skip("Flagger is not built; `python -m toolchain.cluster.extra flagger` builds it")
    env = rollouts.stack.env
    types = str(program.parent / "files" / "crd.yaml")
    subprocess.run(["kubectl", "apply", "--server-side", "--filename", types], env=env, check=True)
    ports = [_free(), _free()]
    commands = [
        [str(Path(sys.prefix) / "bin" / "estate"), "rollout", "gate", "--port", str(ports[0])],
        [
            *(str(program), f"-kubeconfig={env['KUBECONFIG']}", f"-port={ports[1]}", LABEL),
            *(f"-namespace={rollouts.stack.namespace}", "-mesh-provider=gatewayapi:v1", "-log-level=info"),
        ],
    ]
    logs = [(rollouts.stack.home / f"{name}.log").open("wb") for name in ("gate", "flagger")]
    running = [
        subprocess.Popen(command, env=env, stdout=log, stderr=log)
        for command, log in zip(commands, logs, strict=True)
    ]
    yield f"http://127.0.0.1:{ports[0]}"
    for process, log in zip(running, logs, strict=True):
        process.terminate()
        process.wait(20)
        log.close()
    subprocess.run(["kubectl", "delete", "--filename", types, "--wait=false"], env=env, check=True)


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def endpoint(rollouts: Rollouts, gate: str, version: str) -> dict[str, Any]:
    analysis = {key: part for key, part in ROLLOUT["analysis"].items() if key != "golden"}
    rollout = {
        **ROLLOUT,
        "steps": [{"percent": 20}, {"percent": 100}],
        "analysis": analysis,
        "flagger": {"gate": gate, "interval_s": 5},
    }
    return {
        "variants": {"only": {"model": rollouts.model(version)}},
        "resources": RESOURCES,
        "rollout": rollout,
    }


def phase(stack: ClusterStack) -> str:
    return str((stack.kubectl("get", "canary", NAME).get("status") or {}).get("phase", ""))


def until(stack: ClusterStack, *phases: str, seconds: float = 600) -> str:
    """Wait for a phase of the Canary; after a change it leaves the one before first."""
    deadline = time.monotonic() + seconds
    while (now := phase(stack)) not in phases:
        assert time.monotonic() < deadline, f"it is {now}, not {phases}"
        time.sleep(0.5)
    return now


@pytest.fixture
def load(gateway: str) -> Load:
    def ask() -> Request:
        one = request({"host": HOST})
        return Request(f"/v2/models/{NAME}/infer", one.body, one.read, one.headers)

    return Load(gateway, ask, kept=4, new=1, pause=0.02)


def test_flagger_promotes_what_is_good(rollouts: Rollouts, gate: str, load: Load) -> None:
    stack = rollouts.stack
    rollouts.configure("blue", "good", more={NAME: endpoint(rollouts, gate, "blue")})
    stack.up()  # ends when Flagger has made its copy, which serves
    assert phase(stack) == "Initialized"
    with load:
        rollouts.configure("blue", "good", more={NAME: endpoint(rollouts, gate, "triple")})
        stack.up()
        until(stack, "Progressing", "Promoting", "Finalising", "Succeeded")
        assert until(stack, "Succeeded", "Failed") == "Succeeded"
    load.report("Flagger promotes")
    assert load.failures == []
    assert set(load.values()) == {"2", "3"}
    assert load.answers[-1].value == "3"
    stack.up("--expect-no-changes")  # replicas and route are Flagger's


@pytest.mark.long
def test_flagger_takes_back_what_is_bad(rollouts: Rollouts, gate: str, load: Load) -> None:
    stack = rollouts.stack
    with load:
        rollouts.configure("blue", "good", more={NAME: endpoint(rollouts, gate, "failing")})
        stack.up()
        until(stack, "Progressing", "Failed")
        assert until(stack, "Succeeded", "Failed") == "Failed"
    load.report("Flagger takes back")
    failed = sum(1 for answer in load.answers if answer.failure)
    assert 0 < failed < 0.25 * len(load.answers), "it never had more than a fifth"
    assert load.answers[-1].value == "3"
