"""Continuous load while the stack changes: every request is answered, and rightly."""

import json
import random
import time
from contextlib import suppress

import psutil

from tests.engine.local.load import Load
from tests.engine.local.stack import LocalStack, get, wait_until
from tests.engine.local.tiny import ENDPOINT, configure, request


def load(stack: LocalStack) -> Load:
    return Load(stack.url(ENDPOINT), request)


def test_weights_move_alone_in_under_a_second_and_lose_nothing(tiny: LocalStack):
    delays = []
    with load(tiny) as sent:
        for traffic in ({"blue": 50, "green": 50}, {"green": 100}, {"blue": 100}):
            configure(tiny, {"blue": 2, "green": 3}, traffic)
            began, ended = applied(tiny)
            assert tiny.changes() == {f"Route {ENDPOINT}": "update"}

            expected = {"blue": "2", "green": "3"}
            wait_until(lambda t=ended: sum(sent.values(since=t).values()) > 100, "answers")
            assert set(sent.values(since=ended)) == {expected[name] for name in traffic}
            fresh = {"50": "3", "100": expected[next(iter(traffic))]}[str(next(iter(traffic.values())))]
            first = next(a.done for a in sent.answers if a.value == fresh and a.done > began)
            delays.append(first - began)
    sent.report("weights 100/0 -> 50/50 -> 0/100 -> 100/0")
    print(
        "[load] from the engine's event to the first changed answer:", [f"{d * 1000:.0f} ms" for d in delays]
    )
    assert sent.failures == []
    assert max(delays) < 1, "the figure that users are promised"


def applied(stack: LocalStack) -> tuple[float, float]:
    """Run `up`; when the engine began to apply the route, and when it had done so."""
    times: dict[str, float] = {}
    process = stack.start("up")
    while process.poll() is None:
        with suppress(FileNotFoundError):
            for line in stack.events.read_text().splitlines():
                with suppress(ValueError):  # the last line may be half-written
                    event = json.loads(line)
                    for key in ("resourcePreEvent", "resOutputsEvent"):
                        step = event.get(key, {}).get("metadata", {})
                        if step.get("op") == "update" and ":Route::" in step["urn"]:
                            times.setdefault(key, time.monotonic())
        time.sleep(0.002)
    assert process.returncode == 0, stack.log.read_text()
    return times["resourcePreEvent"], times["resOutputsEvent"]


def test_a_model_version_is_changed_and_nothing_is_lost(tiny: LocalStack):
    with load(tiny) as sent:
        for factor in (5, 2):
            configure(tiny, {"blue": factor, "green": 3}, {"blue": 100})
            tiny.up()
            assert tiny.changes() == {f"ModelServer {ENDPOINT}-blue": "update"}
            after = time.monotonic()
            wait_until(lambda t=after: sum(sent.values(since=t).values()) > 100, "answers")
            assert set(sent.values(since=after)) == {str(factor)}, "the old version still answers"
    sent.report("model version of a variant with one replica")
    assert sent.failures == []


def test_replicas_come_and_go_and_nothing_is_lost(tiny: LocalStack):
    with load(tiny) as sent:
        for replicas in (2, 1):
            configure(tiny, {"blue": 2, "green": 3}, {"blue": 100}, replicas=replicas)
            tiny.up()
            assert len(tiny.outputs()["endpoints"][ENDPOINT]["variants"]["blue"]["addresses"]) == replicas
    sent.report("replicas 1 -> 2 -> 1")
    assert sent.failures == []
    assert set(sent.values()) == {"2"}


def test_a_variant_comes_gets_traffic_and_goes_and_nothing_is_lost(tiny: LocalStack):
    with load(tiny) as sent:
        configure(tiny, {"blue": 2, "green": 3, "red": 7}, {"blue": 50, "red": 50})
        tiny.up()
        wait_until(lambda: sent.values()["7"] > 50, "answers of the new variant")
        configure(tiny, {"blue": 2, "green": 3}, {"blue": 100})
        tiny.up()
    sent.report("a variant added with half of the traffic, and removed")
    assert sent.failures == []
    assert set(sent.values()) == {"2", "7"}


def test_one_of_two_replicas_is_killed_again_and_again_and_nothing_is_lost(tiny: LocalStack):
    configure(tiny, {"blue": 2, "green": 3}, {"blue": 100}, replicas=2)
    tiny.up()
    moments = random.Random(7)
    gaps = []
    with load(tiny) as sent:
        for number in range(8):
            victim = f"{ENDPOINT}-blue.{number % 2}"
            process = tiny.process(victim)
            time.sleep(moments.random() * 0.3)  # not always at the same point of a request
            gaps.append(killed(tiny, process, victim))
    sent.report(f"one of two replicas killed {len(gaps)} times")
    print("[load] until the replica answered again:", [f"{gap:.1f} s" for gap in gaps])
    assert sent.failures == []
    # Rare as a loss by it is, each finding that the gateway sits on can be one.
    assert "cluster_updated_via_merge: 0" in get(f"{tiny.outputs()['gateway']}/stats")[1]


def killed(stack: LocalStack, process: psutil.Process, name: str) -> float:
    """Kill a replica and wait until it is back; the seconds that took."""
    index = int(name.rpartition(".")[2])
    address = stack.outputs()["endpoints"][ENDPOINT]["variants"]["blue"]["addresses"][index]
    began = time.monotonic()
    process.kill()
    wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "its end")
    wait_until(lambda: get(f"{address}/v2/health/ready")[0] == 200, f"{name} after a kill")
    gap = time.monotonic() - began
    # Only then is there another healthy replica to turn to when the next one is killed.
    admin, healthy = stack.outputs()["gateway"], f"{address.removeprefix('http://')}::health_flags::healthy"
    wait_until(lambda: healthy in get(f"{admin}/clusters")[1], "the gateway to see it")
    return gap
