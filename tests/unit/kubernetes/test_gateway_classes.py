"""What each class of gateway is given, and what is refused before anything is made."""

from typing import Any

import pytest
import yaml

from components.spec import EstateSpec, SpecError, validate
from components.spec.gateway_classes import CLASSES, Feature, GatewayClass

TWO = {"blue": {"model": "s3://m/1"}, "green": {"model": "s3://m/2"}}
ARN = "arn:aws:acm:eu-west-1:123456789012:certificate/0f3d"


def endpoint(**more: Any) -> dict[str, Any]:
    return {"digits": {"variants": TWO, "traffic": {"blue": 90, "green": 10}, **more}}


def gateway(name: GatewayClass, **more: Any) -> dict[str, Any]:
    """The least that a gateway of a class needs."""
    tls = {} if Feature.PLAIN_GRPC in CLASSES[name].features else {"tls": {}}
    return {"gateway_class": name.value, **tls, **more}


def problems(**blocks: Any) -> list[tuple[str, str]]:
    stack = {"platform": "kubernetes", "registry": {}, "endpoints": endpoint(), **blocks}
    try:
        validate(EstateSpec, stack)
    except SpecError as error:
        return [(".".join(map(str, path)), message) for path, message in error.problems]
    return []


@pytest.mark.parametrize("name", list(GatewayClass))
def test_a_variant_that_stands_in_is_refused_and_the_servers_own_rungs_are_not(
    render: Any, name: GatewayClass
) -> None:
    ((path, message),) = problems(gateway=gateway(name), endpoints=endpoint(fallback=[{"variant": "blue"}]))
    assert path == "endpoints.digits.fallback"
    assert "leave `variant` out" in message
    rungs = [{"cached_s": 60}, {"value": {"y": 0}}]
    objects = render(
        gateway=gateway(name), endpoints=endpoint(fallback=rungs, **_time_limit(name, timeout_ms=2000))
    )
    texts = [
        found["data"]["settings.yaml"]
        for (kind, _), found in objects.items()
        if kind == "ConfigMap" and "settings.yaml" in found.get("data", {})
    ]
    assert len(texts) == len(TWO)
    for text in texts:
        (model,) = yaml.safe_load(text)["models"]
        assert model["fallback"] == {"rungs": [{"cached_seconds": 60}, {"value": {"y": 0}}]}
        assert model["timeout_seconds"] == (2 if _time_limit(name, timeout_ms=2000) else 30)


def _time_limit(name: GatewayClass, timeout_ms: int) -> dict[str, int]:
    can = CLASSES[name].features & {Feature.TIMEOUT, Feature.TIMEOUT_IN_SECONDS}
    return {"timeout_ms": timeout_ms} if can else {}


@pytest.mark.parametrize("name", list(GatewayClass))
def test_routes_hold_only_what_the_class_can_do(render: Any, name: GatewayClass) -> None:
    objects = render(gateway=gateway(name), endpoints=endpoint())
    has = CLASSES[name].features
    rules = objects["HTTPRoute", "digits"]["spec"]["rules"]
    (shares,) = [rule for rule in rules if not any("headers" in match for match in rule["matches"])]
    assert ("timeouts" in shares) is (Feature.TIMEOUT in has)
    assert ("filters" in shares["backendRefs"][0]) is (Feature.VARIANT_HEADER in has)
    assert (("BackendTrafficPolicy", "digits") in objects) is (name is GatewayClass.ENVOY)


@pytest.mark.parametrize("name", [name for name in GatewayClass if name is not GatewayClass.ENVOY])
@pytest.mark.parametrize(
    ("field", "value", "feature"),
    [
        ("shadow", {"variant": "green"}, Feature.MIRROR),
        ("shadow", {"variant": "green", "percent": 1}, Feature.MIRROR_SHARE),
        ("timeout_ms", 1500, Feature.TIMEOUT),
        ("retries", 3, Feature.RETRIES),
        ("rate_limit", {"requests": 1}, Feature.RATE_LIMIT),
        ("access", {"api_keys": {"secret": "x"}}, Feature.ACCESS),
        ("protection", {"max_requests": 1}, Feature.BREAKER),
        ("protection", {"eject_after_errors": 1}, Feature.OUTLIERS),
        ("affinity", {"header": "x-user"}, Feature.AFFINITY),
    ],
)
def test_what_a_class_cannot_do_is_refused_and_the_rest_is_not(
    name: GatewayClass, field: str, value: Any, feature: Feature
) -> None:
    found = problems(gateway=gateway(name), endpoints=endpoint(traffic={"blue": 100}, **{field: value}))
    if feature in CLASSES[name].features:
        assert not found
        return
    ((path, message),) = found
    assert path.startswith(f"endpoints.digits.{field}")
    assert name.value in message


def test_googles_load_balancer_counts_whole_seconds(render: Any) -> None:
    objects = render(gateway=gateway(GatewayClass.GKE), endpoints=endpoint(timeout_ms=2000))
    assert objects["GCPBackendPolicy", "digits-blue"]["spec"]["default"]["timeoutSec"] == 2
    ((_, message),) = problems(gateway=gateway(GatewayClass.GKE), endpoints=endpoint(timeout_ms=1500))
    assert "write 2000" in message


@pytest.mark.parametrize("name", list(GatewayClass))
def test_a_variant_too_many_is_refused(name: GatewayClass) -> None:
    def so_many(number: int) -> list[tuple[str, str]]:
        variants = {f"v{at}": {"model": "s3://m/1"} for at in range(number)}
        one = {"digits": {"variants": variants, "traffic": {"v0": 100}}}
        return problems(gateway=gateway(name), endpoints=one)

    most = CLASSES[name].most_variants
    assert not so_many(most)
    ((path, message),) = so_many(most + 1)
    assert path == "endpoints.digits.variants"
    assert f"{most} variants at most" in message


def test_who_is_away_is_woken_only_by_a_gateway_that_counts_requests_for_nobody() -> None:
    keda = {"kubernetes": {"autoscaler": "keda"}, "monitoring": {"prometheus": "http://prometheus:9090"}}
    away = endpoint(scaling={"zero_after_s": 600})
    assert not problems(endpoints=away, **keda)
    ((path, message),) = problems(gateway={"gateway_class": "istio"}, endpoints=away, **keda)
    assert path == "endpoints.digits.scaling.zero_after_s"
    assert "use class envoy" in message


@pytest.mark.parametrize(
    ("settings", "path", "mend"),
    [
        ({"gateway_class": "aws-alb"}, "gateway.tls", "add `tls: {}`"),
        ({"gateway_class": "aws-lattice"}, "gateway.tls", "add `tls: {}`"),
        (
            {"gateway_class": "aws-alb", "tls": {"secret": "t"}},
            "gateway.tls.secret",
            "its ARN as `certificate`",
        ),
        ({"tls": {"certificate": ARN}}, "gateway.tls.certificate", "with `secret`"),
        (
            {"gateway_class": "gke-internal", "tls": {"certificate": "map"}},
            "gateway.tls.certificate",
            "`secret`",
        ),
        ({"tls": {}}, "gateway.tls", "name a Secret"),
        ({"tls": {"issuer": "x"}}, "gateway.tls.issuer", "add e.g. secret: models-tls"),
        ({"tls": {"secret": "a", "certificate": "b"}}, "gateway.tls", "leave out `secret` or `certificate`"),
        ({"public": True}, "gateway.public", "leave it out"),
        ({"gateway_class": "istio", "parameters": "x"}, "gateway.parameters", "leave it out"),
        (
            {"gateway_class": "aws-alb", "tls": {"certificate": ARN}, "parameters": "mine"},
            "gateway.tls.certificate",
            "LoadBalancerConfiguration `mine` says it",
        ),
        ({"gateway_class": "gke", "port": 8080}, "gateway.port", "80 or 443 only"),
    ],
)
def test_a_gateway_that_its_class_cannot_be_is_refused(settings: Any, path: str, mend: str) -> None:
    ((where, message),) = problems(gateway=settings)
    assert where == path
    assert mend in message


def test_googles_load_balancer_takes_a_certificate_map(render: Any) -> None:
    settings = gateway(GatewayClass.GKE, tls={"certificate": "models"})
    found = render(gateway=settings)["Gateway", "gateway"]
    assert found["metadata"]["annotations"]["networking.gke.io/certmap"] == "models"
    (listener,) = found["spec"]["listeners"]
    assert listener["protocol"] == "HTTPS"
    assert "tls" not in listener


def test_an_application_load_balancer_reaches_pods_and_asks_whether_they_are_ready(render: Any) -> None:
    objects = render(gateway=gateway(GatewayClass.AWS_ALB, public=True, tls={"certificate": ARN}))
    group = objects["TargetGroupConfiguration", "digits-blue"]["spec"]
    assert group["targetReference"]["name"] == "digits-blue"
    rest = group["defaultConfiguration"]
    assert rest["targetType"] == "ip", "the Services have no ports on nodes"
    assert rest["healthCheckConfig"]["healthCheckPath"] == "/v2/health/ready"
    (remote,) = group["routeConfigurations"]
    assert remote["routeIdentifier"] == {"kind": "GRPCRoute", "namespace": "serving-test", "name": "digits"}
    assert remote["targetGroupProps"]["protocolVersion"] == "GRPC"
    (balancer,) = [one for key, one in objects.items() if key[0] == "LoadBalancerConfiguration"]
    assert balancer["spec"]["scheme"] == "internet-facing"
    assert balancer["spec"]["listenerConfigurations"] == [
        {"protocolPort": "HTTPS:443", "defaultCertificate": ARN}
    ]
    found = objects["Gateway", "gateway"]["spec"]
    assert found["infrastructure"]["parametersRef"]["name"] == balancer["metadata"]["name"]
    assert "tls" not in found["listeners"][0], "this class reads no certificates of listeners"


def test_an_application_load_balancer_of_ones_own_making_is_left_alone(render: Any) -> None:
    objects = render(gateway=gateway(GatewayClass.AWS_ALB, parameters="mine"))
    assert not [key for key in objects if key[0] == "LoadBalancerConfiguration"]
    parameters = objects["Gateway", "gateway"]["spec"]["infrastructure"]["parametersRef"]
    assert parameters == {"group": "gateway.k8s.aws", "kind": "LoadBalancerConfiguration", "name": "mine"}


def test_lattice_asks_whether_servers_are_ready(render: Any) -> None:
    objects = render(gateway=gateway(GatewayClass.AWS_LATTICE, tls={"certificate": ARN}))
    policy = objects["TargetGroupPolicy", "digits-green"]["spec"]
    assert policy["targetRef"] == {"group": "", "kind": "Service", "name": "digits-green"}
    assert (policy["healthCheck"]["path"], policy["healthCheck"]["port"]) == ("/v2/health/ready", 8080)
    (listener,) = objects["Gateway", "gateway"]["spec"]["listeners"]
    assert listener["tls"]["options"] == {"application-networking.k8s.aws/certificate-arn": ARN}


@pytest.mark.parametrize(
    ("users", "told"),
    [
        ({"header": "x-user"}, {"type": "Headers", "headers": [{"name": "x-user"}]}),
        ({"cookie": "session"}, {"type": "Cookie", "cookie": {"name": "session"}}),
    ],
)
def test_users_stay_with_their_variant_and_replica(render: Any, users: Any, told: Any) -> None:
    balanced = render(endpoints=endpoint(affinity=users))["BackendTrafficPolicy", "digits"]["spec"][
        "loadBalancer"
    ]
    assert balanced == {"type": "ConsistentHash", "consistentHash": told}
    outcome = {"outcome": {"file": "outcomes.jsonl"}}
    rollout = {"strategy": "a/b", "users": users, "analysis": outcome}
    divided = render(endpoints=endpoint(rollout=rollout))["BackendTrafficPolicy", "digits"]["spec"]
    assert divided["loadBalancer"] == balanced
    alone = render(endpoints=endpoint())["BackendTrafficPolicy", "digits"]["spec"]["loadBalancer"]
    assert alone == {"type": "RoundRobin"}


def test_keys_of_clients_go_no_further_than_the_gateway(render: Any) -> None:
    objects = render(endpoints=endpoint(access={"api_keys": {"secret": "keys"}}))
    assert objects["SecurityPolicy", "digits"]["spec"]["apiKeyAuth"]["sanitize"] is True
