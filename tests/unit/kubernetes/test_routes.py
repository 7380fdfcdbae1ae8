"""Gateways and routes: who gets which request."""

import json
from typing import Any

import pytest

from components.provider.weights import weights as in_use

TWO = {"blue": {"model": "s3://m/1"}, "green": {"model": "s3://m/2"}}


def endpoint(**more: Any) -> dict[str, Any]:
    return {"digits": {"variants": TWO, "traffic": {"blue": 90, "green": 10}, **more}}


def rules(objects: Any, kind: str = "HTTPRoute") -> list[dict[str, Any]]:
    return list(objects[kind, "digits"]["spec"]["rules"])


def weights(rule: Any) -> dict[str, int]:
    return {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}


@pytest.mark.parametrize(("kind", "port"), [("HTTPRoute", 8080), ("GRPCRoute", 8081)])
def test_weights_are_divided_for_rest_and_grpc_alike(render: Any, kind: str, port: int) -> None:
    first = rules(render(endpoints=endpoint()), kind)[0]
    assert weights(first) == {"digits-blue": 90, "digits-green": 10}
    for backend in first["backendRefs"]:
        assert (backend["group"], backend["kind"], backend["port"]) == ("", "Service", port)


def test_a_variant_without_a_share_gets_nothing(render: Any) -> None:
    gateway = {"gateway_class": "istio"}
    first = rules(render(endpoints=endpoint(traffic={"blue": 100}), gateway=gateway))[0]
    assert weights(first) == {"digits-blue": 100, "digits-green": 0}


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
@pytest.mark.parametrize(
    ("traffic", "to"), [({"blue": 100}, ["blue", "blue"]), ({"green": 100}, ["green"] * 2)]
)
def test_the_place_of_a_variant_without_a_share_is_kept_and_lent(
    render: Any, kind: str, traffic: dict[str, int], to: list[str]
) -> None:
    """Envoy Gateway takes a place's cluster away before the route that chooses it: requests would be lost."""
    first = rules(render(endpoints=endpoint(traffic=traffic)), kind)[0]
    assert [backend["name"] for backend in first["backendRefs"]] == [f"digits-{name}" for name in to]
    assert [backend["weight"] for backend in first["backendRefs"]] == [1_000_000, 1]
    for backend, name in zip(first["backendRefs"], to, strict=True):
        if kind == "HTTPRoute":
            (said,) = backend["filters"][0]["responseHeaderModifier"]["set"]
            assert said == {"name": "x-variant", "value": name}


def test_a_variant_without_a_share_can_go_without_the_places_of_others_changing(render: Any) -> None:
    three = {**TWO, "red": {"model": "s3://m/3"}}
    traffic = {"green": 10, "red": 90}
    before = rules(render(endpoints=endpoint(variants=three, traffic=traffic)))[0]["backendRefs"]
    without = {name: variant for name, variant in three.items() if name != "blue"}
    after = rules(render(endpoints=endpoint(variants=without, traffic=traffic)))[0]["backendRefs"]
    assert [place["name"] for place in after] == ["digits-red", "digits-green"]
    assert [place["name"] for place in before] == ["digits-red", "digits-green", "digits-red"]
    assert [place["weight"] for place in before] == [900_000, 100_000, 1]


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
def test_the_weights_keep_their_place_when_a_variant_comes(render: Any, kind: str) -> None:
    more = {**TWO, "red": {"model": "s3://m/3"}}
    for variants in (TWO, more):
        (index,) = [
            number
            for number, rule in enumerate(rules(render(endpoints=endpoint(variants=variants)), kind))
            if not any(match.get("headers") for match in rule.get("matches", []))
        ]
        assert index == 0


def test_rest_and_grpc_have_host_names_of_their_own(render: Any) -> None:
    objects = render(endpoints=endpoint(), gateway={"domain": "models.example.com"})
    assert objects["HTTPRoute", "digits"]["spec"]["hostnames"] == ["digits.models.example.com"]
    assert objects["GRPCRoute", "digits"]["spec"]["hostnames"] == ["digits-grpc.models.example.com"]
    listener = objects["Gateway", "gateway"]["spec"]["listeners"][0]
    assert listener["hostname"] == "*.models.example.com"


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
def test_a_pin_leads_to_its_variant_alone(render: Any, kind: str) -> None:
    found = {}
    for rule in rules(render(endpoints=endpoint(pin_header="x-try")), kind):
        for match in rule.get("matches", []):
            for header in match.get("headers", []):
                if header["type"] == "Exact":
                    assert header["name"] == "x-try"
                    found[header["value"]] = weights(rule)
    assert found == {"blue": {"digits-blue": 100}, "green": {"digits-green": 100}}


def test_a_pin_that_names_nobody_is_not_answered_by_chance(render: Any) -> None:
    objects = render(endpoints=endpoint())
    _, *pins, unknown = rules(objects)
    assert len(pins) == 2
    assert "backendRefs" not in unknown
    name = unknown["filters"][0]["extensionRef"]["name"]
    answer = objects["HTTPRouteFilter", name]["spec"]["directResponse"]
    assert answer["statusCode"] == 404
    assert "blue, green" in json.loads(answer["body"]["inline"])["error"]


def test_clients_see_who_answered(render: Any) -> None:
    (backend, _) = rules(render(endpoints=endpoint()))[0]["backendRefs"]
    modifier = backend["filters"][0]["responseHeaderModifier"]
    assert modifier == {"set": [{"name": "x-variant", "value": "blue"}]}


@pytest.mark.parametrize(
    ("percent", "fraction"),
    [(100, None), (10, {"numerator": 100_000, "denominator": 1_000_000}), (0.5, {"numerator": 5000,
    "denominator": 1_000_000})],
)  # fmt: skip
def test_a_share_of_the_requests_is_copied(render: Any, percent: float, fraction: Any) -> None:
    shadow = {"variant": "green", "percent": percent}
    objects = render(endpoints=endpoint(traffic={"blue": 100}, shadow=shadow))
    for kind, port in (("HTTPRoute", 8080), ("GRPCRoute", 8081)):
        first, *pins = rules(objects, kind)
        mirror = first["filters"][0]["requestMirror"]
        assert mirror["backendRef"] == {"group": "", "kind": "Service", "name": "digits-green", "port": port}
        assert mirror.get("fraction") == fraction
        assert not [
            pin for pin in pins if any(one["type"] == "RequestMirror" for one in pin.get("filters", []))
        ]


def test_the_time_limit_holds_for_rest_and_grpc(render: Any) -> None:
    objects = render(endpoints=endpoint(timeout_ms=2500))
    timed = [rule for rule in rules(objects) if "backendRefs" in rule]
    assert {rule["timeouts"]["request"] for rule in timed} == {"2500ms"}
    policy = objects["BackendTrafficPolicy", "digits"]["spec"]
    assert policy["timeout"]["http"]["requestTimeout"] == "2500ms"
    assert {target["kind"] for target in policy["targetRefs"]} == {"HTTPRoute", "GRPCRoute"}


def test_only_requests_that_nobody_answered_are_sent_again(render: Any) -> None:
    retry = render(endpoints=endpoint(retries=2))["BackendTrafficPolicy", "digits"]["spec"]["retry"]
    assert retry["numRetries"] == 2
    assert set(retry["retryOn"]["triggers"]) == {"connect-failure", "refused-stream", "reset"}
    assert "retry" not in render(endpoints=endpoint(retries=0))["BackendTrafficPolicy", "digits"]["spec"]


def test_protection_access_and_rate_limit_become_policies(render: Any) -> None:
    more = {
        "protection": {"max_requests": 500, "eject_after_errors": 5, "eject_s": 20},
        "rate_limit": {"requests": 100, "per": "minute"},
        "access": {"jwt": {"issuer": "https://i", "jwks_uri": "https://i/keys", "audiences": ["serving"]}},
    }
    objects = render(endpoints=endpoint(**more))
    policy = objects["BackendTrafficPolicy", "digits"]["spec"]
    assert policy["circuitBreaker"]["maxParallelRequests"] == 500
    assert policy["healthCheck"]["passive"]["consecutive5XxErrors"] == 5
    assert policy["rateLimit"]["local"]["rules"] == [{"limit": {"requests": 100, "unit": "Minute"}}]
    (provider,) = objects["SecurityPolicy", "digits"]["spec"]["jwt"]["providers"]
    assert (provider["issuer"], provider["audiences"]) == ("https://i", ["serving"])
    keys = render(endpoints=endpoint(access={"api_keys": {"secret": "keys"}}))["SecurityPolicy", "digits"][
        "spec"
    ]
    assert keys["apiKeyAuth"]["credentialRefs"] == [{"group": "", "kind": "Secret", "name": "keys"}]


def test_tls_and_its_certificate(render: Any) -> None:
    gateway = render(gateway={"tls": {"secret": "models-tls", "issuer": "letsencrypt"}})["Gateway", "gateway"]
    (listener,) = gateway["spec"]["listeners"]
    assert (listener["protocol"], listener["port"]) == ("HTTPS", 443)
    assert listener["tls"]["certificateRefs"] == [{"group": "", "kind": "Secret", "name": "models-tls"}]
    assert gateway["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"


def test_an_existing_gateway_is_attached_to(render: Any) -> None:
    objects = render(gateway={"existing": "infra/public"})
    assert ("Gateway", "gateway") not in objects
    (parent,) = objects["HTTPRoute", "digits"]["spec"]["parentRefs"]
    assert (parent["namespace"], parent["name"]) == ("infra", "public")


def test_googles_load_balancer_is_told_where_health_is(render: Any) -> None:
    objects = render(gateway={"gateway_class": "gke"}, endpoints=endpoint())
    check = objects["HealthCheckPolicy", "digits-blue"]["spec"]
    assert check["default"]["config"]["httpHealthCheck"]["requestPath"] == "/v2/health/ready"
    assert check["targetRef"] == {"group": "", "kind": "Service", "name": "digits-blue"}
    assert "timeouts" not in rules(objects)[0]


def test_a_rollout_owns_the_weights_by_variant_and_the_routes_follow(recorded: Any) -> None:
    asked = recorded(endpoints=endpoint(traffic={"blue": 100}, rollout={}))
    kept = next(one for one in asked.asked if one.typ == "serving-estate:kubernetes:Weights")
    assert kept.inputs["traffic"] == {"blue": 100, "green": 0}
    assert asked.ignored[kept.typ, kept.name] == ["traffic"], "a run without a driver leaves them alone"
    for kind in ("HTTPRoute", "GRPCRoute"):
        assert weights(rules(asked.objects, kind)[0]).keys() == {"digits-blue"}
    moved = recorded(endpoints=endpoint(traffic={"blue": 100}, rollout={"weights": {"blue": 95, "green": 5}}))
    assert moved.ignored[kept.typ, kept.name] == [], "a driver's run says them"
    assert weights(rules(moved.objects)[0]) == {"digits-blue": 95, "digits-green": 5}


def test_weights_that_were_kept_are_those_of_the_variants_that_there_are() -> None:
    traffic = {"blue": 95, "green": 5, "old": 0}
    kept = {"name": "digits", "traffic": traffic, "variants": ["blue", "green", "new"]}
    assert in_use(kept, kept["variants"]) == {"blue": 95, "green": 5, "new": 0}
    with pytest.raises(RuntimeError, match=r"green \(5 %\) still gets requests.*promote or abort"):
        in_use(kept, ["blue"])
