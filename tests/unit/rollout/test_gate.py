"""What Flagger is answered: when it may go on, and when it must go back."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stacks.rollout.cluster.gate import Gate, serve
from stacks.rollout.errors import SourceDownError
from tests.unit.rollout.fake_cluster import FakeApi
from tests.unit.rollout.test_cluster import at, served

ROUTE = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/tiny"
ROLLOUT = {"steps": [{"percent": 50}, {"percent": 100}], "min_samples": 50, "max_time_s": 600}


class World:
    """A canary beside its primary, each with one pod."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.now = 0.0
        for instance in ("tiny-blue", "tiny-blue-primary"):
            meta = {"name": instance, "namespace": "shop", "labels": {"app.kubernetes.io/instance": instance}}
            status = {
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"restartCount": 0}],
            }
            self.api.pods.append({"metadata": meta, "status": status})
        self.gate = Gate(self.api, lambda: self.now)
        self.weight(0)
        self.serves(0, 0)

    def weight(self, share: int) -> None:
        backends = [{"name": "tiny-primary", "weight": 100 - share}, {"name": "tiny-canary", "weight": share}]
        self.api.objects[ROUTE] = {"spec": {"rules": [{"backendRefs": backends}]}}

    def serves(self, canary: int, primary: int, failed: int = 0) -> None:
        self.api.texts = {
            at("tiny-blue"): served(canary - failed, internal=failed),
            at("tiny-blue-primary"): served(primary),
        }
        # `at` ends with a slash after the port, so that one name is not the start of the other's.

    def ask(self, checksum: str = "one") -> tuple[bool, bool]:
        told = {"endpoint": "tiny", "target": "tiny-blue", "rollout": json.dumps(ROLLOUT)}
        question = {"name": "tiny", "namespace": "shop", "checksum": checksum, "metadata": told}
        return self.gate.may_promote(question)[0], self.gate.must_roll_back(question)[0]


def test_it_goes_on_with_evidence_and_not_before() -> None:
    world = World()
    assert world.ask() == (True, False), "without requests there is nothing to wait for"
    world.weight(50)
    assert world.ask() == (False, False)
    world.serves(20, 20)
    assert world.ask() == (False, False), "too few of them"
    world.serves(3000, 3000)
    assert world.ask() == (True, False)
    world.weight(100)
    assert world.ask() == (False, False), "the next step is counted for itself"
    world.serves(6000, 3000)
    assert world.ask() == (True, False), "held against what the primary did before"


def test_it_goes_back_when_there_is_evidence_against_it() -> None:
    world = World()
    world.weight(50)
    world.ask()
    world.serves(400, 400, failed=80)
    assert world.ask() == (False, True)


def test_a_step_without_evidence_ends_with_its_time() -> None:
    world = World()
    world.weight(50)
    world.ask()
    world.now = 599
    assert world.ask() == (False, False)
    world.now = 600
    assert world.ask() == (False, True)
    assert world.ask("another revision") == (False, False), "which has its own time"


def test_without_metrics_nothing_is_decided() -> None:
    world = World()
    world.weight(50)
    world.api.texts = {}
    with pytest.raises(SourceDownError):
        world.ask()


@contextmanager
def listening(world: World) -> Iterator[str]:
    server = serve(world.gate, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def post(url: str, body: bytes) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_flagger_is_answered_by_status() -> None:
    world = World()
    world.weight(50)
    told: dict[str, Any] = {"endpoint": "tiny", "target": "tiny-blue", "rollout": json.dumps(ROLLOUT)}
    question = json.dumps({"name": "tiny", "namespace": "shop", "checksum": "1", "metadata": told}).encode()
    with listening(world) as url:
        assert post(f"{url}/promote", question)[0] == 403
        world.serves(400, 400, failed=80)
        status, why = post(f"{url}/rollback", question)
        assert status == 200
        assert "80 of 400 requests failed" in why
        assert post(f"{url}/promote", b"{}")[0] == 400
        world.api.is_down = True
        assert post(f"{url}/rollback", question)[0] == 503
