"""Who answers: by weight, by name, and in the shadow."""

import json
import urllib.request
from math import sqrt

import numpy as np
import tritonclient.grpc

from stacks.rollout.sources.envoy import EnvoyStatistics
from tests.engine.local.load import Load
from tests.engine.local.stack import LocalStack, get, wait_until
from tests.engine.local.tiny import ENDPOINT, MODEL_PATH, ask, configure, request
from tests.engine.rollout import faults

FACTORS = {"blue": 2, "green": 3}


def answers(stack: LocalStack, count: int) -> list[str]:
    with Load(stack.url(ENDPOINT), request, kept=8, new=0, pause=0) as sent:
        wait_until(lambda: len(sent.answers) >= count, f"{count} answers")
    assert sent.failures == []
    return [answer.value for answer in sent.answers[:count]]


def within(hits: int, of: int, share: float, sigmas: float = 3) -> bool:
    return abs(hits - of * share) <= sigmas * sqrt(of * share * (1 - share))


def test_weights_are_what_clients_see(tiny: LocalStack):
    configure(tiny, FACTORS, {"blue": 90, "green": 10})
    tiny.up()
    # Chance alone is outside of 3 sigma once in 370 times; twice in a row it is not chance.
    counts = []
    for _ in range(2):
        counts.append(answers(tiny, 10_000).count("3"))
        if within(counts[-1], 10_000, 0.1):
            break
    print("\n[routing] green got", counts, "of 10000 at 10 %")
    assert within(counts[-1], 10_000, 0.1)


def test_a_request_goes_to_the_variant_that_it_names(tiny: LocalStack):
    url = tiny.url(ENDPOINT)
    for _ in range(20):
        assert ask(url, {"x-variant": "green"}) == "3", "green has no share of the traffic"
        assert ask(url, {"x-variant": "blue"}) == "2"


def test_grpc_has_the_same_address_weights_and_pins(tiny: LocalStack):
    configure(tiny, FACTORS, {"blue": 100})
    tiny.up()
    x = tritonclient.grpc.InferInput("x", [1, 3], "FP32")
    x.set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
    with tritonclient.grpc.InferenceServerClient(tiny.outputs()["endpoints"][ENDPOINT]["grpc"]) as client:
        for headers, factor in ((None, 2), ({"x-variant": "green"}, 3), ({"x-variant": "blue"}, 2)):
            answer = client.infer(ENDPOINT, [x], headers=headers).as_numpy("y")
            assert answer is not None
            assert answer.tolist() == [[factor, 2 * factor, 3 * factor]]


def test_an_unknown_variant_is_said_to_be_unknown(tiny: LocalStack):
    status, text = get(f"{tiny.url(ENDPOINT)}{MODEL_PATH}", {"x-variant": "gren"})
    assert status == 404
    error = json.loads(text)["error"]
    assert "no variant of the name in header x-variant" in error
    assert "blue, green" in error


def test_a_fallback_answers_for_a_model_that_fails_and_says_so(tiny: LocalStack):
    """The model fails from 501 on, its stand-in from 801 on; a rollout sees all of that as failed."""
    models = tiny.home / "models"
    block = {
        "variants": {"blue": {"model": faults.failing(models, 501)}},
        "fallback": [{"cached_s": 60}, {"model": faults.failing(models, 801)}, {"value": {"y": [0, 0, 0]}}],
    }
    tiny.configure(endpoints={ENDPOINT: block})
    outputs = tiny.outputs()
    tiny.up()
    source = EnvoyStatistics(str(outputs["gateway"]))
    before = source.read(ENDPOINT, ["blue"]).variants["blue"]
    url = f"{outputs['endpoints'][ENDPOINT]['url']}{MODEL_PATH}/infer"
    seen = {}
    for number in (500, 501, 801):
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [number, 1, 1]}
        body = json.dumps({"inputs": [tensor]}).encode()
        asked = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            data = json.load(answer)["outputs"][0]["data"]
            seen[number] = (data, answer.headers["x-degraded"], answer.headers["x-variant"])
    assert seen[500] == ([1000, 2, 2], None, "blue")
    assert seen[501] == ([1002, 2, 2], f"model; reason=failure; by={ENDPOINT}-fallback-1/1", "blue")
    assert seen[801] == ([0, 0, 0], f"static; reason=failure; by={ENDPOINT}/1", "blue")
    after = source.read(ENDPOINT, ["blue"]).variants["blue"].since(before)
    assert (after.requests, after.failures) == (3, 2)


def test_a_shadow_gets_its_share_and_its_answers_reach_nobody(tiny: LocalStack):
    configure(tiny, FACTORS, {"blue": 100}, shadow={"variant": "green", "percent": 25})
    tiny.up()
    admin = tiny.outputs()["gateway"]
    before = upstream_requests(admin, "green")
    assert set(answers(tiny, 4_000)) == {"2"}

    def settled() -> int:  # every copy has been sent, and answered by the shadow
        return upstream_requests(admin, "green", "_completed") == upstream_requests(admin, "green")

    wait_until(settled, "the copies' answers")
    total = sum(upstream_requests(admin, name) for name in ("blue",))
    copies = upstream_requests(admin, "green") - before
    print(f"\n[routing] the shadow got {copies} copies at 25 %")
    assert total >= 4_000
    assert within(copies, 4_000, 0.25, sigmas=5), "a few more than 4000 were sent"


def upstream_requests(admin: str, variant: str, kind: str = "_total") -> int:
    name = f"cluster.{ENDPOINT}/{variant}/http.upstream_rq{kind}"
    _, text = get(f"{admin}/stats?filter=^{name}$")
    return int(text.rpartition(":")[2])
