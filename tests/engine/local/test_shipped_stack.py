"""The stack that the project ships; on every held-out row of real data it answers as scikit-learn does.

One file, so that one process of the tests has the stack: it takes a minute to come up.
"""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest

from stacks.models.catalog import EXAMPLES
from tests.engine.local.kills import SEED, killed
from tests.engine.local.stack import NAME, LocalStack, get, wait_until
from toolchain.lock import ROOT

VARIANTS = {1: "blue", 2: "green"}


class Listeners(threading.Thread):
    """Notes every address that a process of the stack listens on, for as long as the stack is watched."""

    def __init__(self, stack: LocalStack) -> None:
        super().__init__(daemon=True)
        self._stack, self._end = stack, threading.Event()
        self.seen: set[tuple[str, int]] = set()

    def run(self) -> None:
        while not self._end.wait(0.1):
            for process in self._stack.processes():
                with suppress(psutil.Error, OSError):
                    for connection in process.net_connections("inet"):
                        if connection.status == psutil.CONN_LISTEN:
                            self.seen.add(tuple(connection.laddr))

    def stop(self) -> None:
        self._end.set()
        self.join()


@pytest.fixture(scope="module")
def full_started() -> Iterator[tuple[LocalStack, set[tuple[str, int]]]]:
    """The stack that the project ships, and where it listened while it came up.

    Its first two runs are killed, at moments that a fixed seed gives.
    """
    stack = LocalStack()
    shipped = (ROOT / "stacks" / "Pulumi.local.yaml").read_text()
    (stack.folder / "config" / f"Pulumi.{NAME}.yaml").write_text(shipped)
    stack.init()
    listeners = Listeners(stack)
    listeners.start()
    try:
        moments = random.Random(SEED)
        for longest in (12, 30):
            killed(stack, "up", after=moments.uniform(2, longest), group=longest == 30)
        stack.up()
        listeners.stop()
        yield stack, listeners.seen
        stack.destroy()
        assert stack.leftovers() == []
    finally:
        listeners.stop()
        stack.remove()


@pytest.fixture
def listeners(full_started: tuple[LocalStack, set[tuple[str, int]]]) -> set[tuple[str, int]]:
    """The addresses and ports that the shipped stack listened on while it came up."""
    return full_started[1]


@pytest.fixture
def full(full_started: tuple[LocalStack, set[tuple[str, int]]]) -> LocalStack:
    """The stack that the project ships, as it ships it: a registry, two endpoints, four trained models."""
    return full_started[0]


@pytest.mark.parametrize("version", VARIANTS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_held_out_row_is_answered_as_scikit_learn_does(full: LocalStack, name: str, version: int):
    estimator, (_, rows, _, _) = EXAMPLES[name].train(version), EXAMPLES[name].data()
    labels, probabilities = estimator.predict(rows), estimator.predict_proba(rows)
    address = urlsplit(full.url(name))
    connection = HTTPConnection(str(address.hostname), address.port)
    worst = 0.0
    for size in (1, 16, len(rows)):
        for begin in range(0, len(rows), size):
            part = slice(begin, begin + size)
            answer = infer(connection, name, VARIANTS[version], rows[part])
            assert answer["label"].tolist() == labels[part].tolist()
            worst = max(worst, float(np.abs(answer["probabilities"] - probabilities[part]).max()))
    print(f"\n[answers] {name} {version}: {len(rows)} rows thrice, furthest {worst:.1e} from scikit-learn's")
    assert worst <= 1e-4


def infer(connection: HTTPConnection, name: str, variant: str, rows: Any) -> dict[str, Any]:
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    headers = {"content-type": "application/json", "x-variant": variant}
    connection.request("POST", f"/v2/models/{name}/infer", json.dumps({"inputs": [tensor]}), headers)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    assert answer.headers["x-variant"] == variant
    outputs = json.loads(text)["outputs"]
    return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in outputs}


def test_nothing_of_the_stack_listens_beyond_loopback_even_while_it_starts(full: LocalStack, listeners):
    assert len({port for _, port in listeners}) >= 8, "the registry, the gateway, two routes, four servers"
    assert {address for address, _ in listeners} <= {"127.0.0.1", "::1"}


def test_a_killed_registry_comes_back_with_what_it_held(full: LocalStack):
    url = full.outputs()["registry"]
    model = f"{url}/api/2.0/mlflow/registered-models/get?name=digits"
    process = full.process("registry.0")
    process.kill()  # its child lives on, and holds the port
    wait_until(lambda: not process.is_running(), "its end")
    again = full.process("registry.0")
    assert again.pid != process.pid
    # MLflow imports for a minute where the cores are busy.
    wait_until(lambda: get(model)[0] == 200 and is_alone(full, again), "the registry's answer", seconds=240)


def is_alone(stack: LocalStack, parent: psutil.Process) -> bool:
    found = [process for process in stack.processes() if is_mlflow(process)]
    return bool(found) and all(process.pid == parent.pid or parent in process.parents() for process in found)


def is_mlflow(process: psutil.Process) -> bool:
    return any("mlflow" in Path(word).name for word in process.cmdline()[:3])
