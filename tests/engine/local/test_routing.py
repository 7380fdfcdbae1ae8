"""Who answers: by weight, by name, and in the shadow."""

import json
import urllib.error
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


def test_a_fallback_answers_for_what_fails_and_says_so(tiny: LocalStack):
    """Green fails from 501 on, blue from 801 on, the model beside blue from 901 on."""
    models = tiny.home / "models"
    limits = {"green": 501, "blue": 801}
    rungs = [
        {"variant": "blue"},
        {"cached_s": 60},
        {"model": faults.failing(models, 901)},
        {"value": {"y": [0, 0, 0]}},
    ]
    variants = {name: {"model": faults.failing(models, limit)} for name, limit in limits.items()}
    block = {"variants": variants, "traffic": {"green": 100}, "fallback": rungs}
    tiny.configure(endpoints={ENDPOINT: block})
    outputs = tiny.outputs()
    tiny.up()
    url = f"{outputs['endpoints'][ENDPOINT]['url']}{MODEL_PATH}/infer"

    def ask_for(number: int, pin: str = "") -> tuple[int, list[int] | None, str | None, list[str] | None]:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [number, 1, 1]}
        headers = {"content-type": "application/json", **({"x-variant": pin} if pin else {})}
        asked = urllib.request.Request(url, json.dumps({"inputs": [tensor]}).encode(), headers)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                data = json.load(answer)["outputs"][0]["data"]
                told = answer.headers
                return answer.status, data, told["x-variant"], told.get_all("x-degraded")
        except urllib.error.HTTPError as error:
            return error.code, None, error.headers["x-variant"], error.headers.get_all("x-degraded")

    model = f"model; reason=failure; by={ENDPOINT}-fallback-1/1"
    value = f"static; reason=failure; by={ENDPOINT}/1"
    assert ask_for(500) == (200, [1000, 2, 2], "green", None)
    assert ask_for(501) == (200, [1002, 2, 2], "blue", ["variant; by=blue"])
    assert ask_for(801) == (200, [1602, 2, 2], "blue", [model, "variant; by=blue"])
    assert ask_for(901) == (200, [0, 0, 0], "blue", [value, "variant; by=blue"])
    assert ask_for(501, pin="green")[::2] == (500, "green"), "who names a variant gets no other one"

    with tritonclient.grpc.InferenceServerClient(outputs["endpoints"][ENDPOINT]["grpc"]) as client:
        x = tritonclient.grpc.InferInput("x", [1, 3], "FP32")
        x.set_data_from_numpy(np.array([[501, 1, 1]], np.float32))
        answer = client.infer(ENDPOINT, [x]).as_numpy("y")
        assert answer is not None
        assert answer.tolist() == [[1002, 2, 2]]

    source = EnvoyStatistics(str(outputs["gateway"]))
    before = source.read(ENDPOINT, ["blue"]).variants["blue"]
    assert [ask_for(number, pin="blue")[3] for number in (800, 801, 901)] == [None, [model], [value]]
    after = source.read(ENDPOINT, ["blue"]).variants["blue"].since(before)
    assert (after.requests, after.failures) == (3, 2), "a rollout sees what the model did not answer"

    (green,) = [name for name in tiny.supervised() if name.startswith(f"{ENDPOINT}-green.")]
    with Load(tiny.url(ENDPOINT), lambda: request(up_to=500), kept=2, new=1) as sent:
        tiny.supervisorctl("stop", green)
        wait_until(lambda: sum(one.variant == "blue" for one in sent.answers) > 100, "answers of blue")
    assert sent.failures == []
    assert set(sent.values()) == {"2"}


def test_a_shadow_gets_its_share_and_its_answers_reach_nobody(tiny: LocalStack):
    configure(tiny, FACTORS, {"blue": 100}, shadow={"variant": "green", "percent": 25})
    tiny.up()
    admin = tiny.outputs()["gateway"]
    before = upstream_requests(admin, "green")
    assert set(answers(tiny, 4_000)) == {"2"}

    def settled() -> bool:  # every copy has been sent, and answered by the shadow
        return upstream_requests(admin, "green", "_active") == 0

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
