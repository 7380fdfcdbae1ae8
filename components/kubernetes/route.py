"""How requests to an endpoint are divided: an HTTPRoute for REST and a GRPCRoute for gRPC.

The Gateway API lets only one kind of route own a host name, so gRPC has a name of its own. Moving weights
changes these two objects and nothing else. Every reference says its group, kind, port and weight itself: what
the API server fills in would else look like a change by somebody else.
"""

from collections.abc import Iterator, Mapping

from pulumi import Input, Resource

from ..arguments import ArgumentsError
from ..platform import RouteParts
from ..spec import Endpoint, GatewayClass, GatewaySettings
from ..spec.gateway_classes import CLASSES, Feature, unsupported
from . import aws, envoy_gateway, flagger, gke
from .model_server import PORTS
from .objects import Manifest, checked_name, labels_of, make, meta, reference, seconds, whenever
from .weights import Weights

_MILLION = 1_000_000
"""The largest weight that the Gateway API knows."""
_POLICIES = {
    GatewayClass.ENVOY: envoy_gateway.policies,
    GatewayClass.GKE: gke.policies,
    GatewayClass.GKE_INTERNAL: gke.policies,
    GatewayClass.AWS_ALB: aws.alb_policies,
    GatewayClass.AWS_LATTICE: aws.lattice_policies,
}


def route(
    name: str,
    gateway: Input[str],
    services: Mapping[str, Input[str]],
    endpoint: Endpoint,
    settings: GatewaySettings,
    parent: Resource,
) -> RouteParts:
    """The two routes, and the policies of the gateway's class that go with them."""
    checked_name("TrafficRoute", name, 58)
    problems = list(unsupported(endpoint, settings.implementation))
    if problems:
        found = [(("endpoint", *path), message) for path, message in problems]
        raise ArgumentsError(f"TrafficRoute {name}", found)
    # A service's handle is `name.namespace`; a variant that has just been made is there before its route.
    names = {key: whenever((service,), _first) for key, service in services.items()}
    namespace = whenever((next(iter(services.values())),), _second)
    parent_ref = whenever((gateway,), parent_of)
    wanted = _POLICIES.get(settings.implementation)
    # First what the routes refer to: a route whose filter is not there yet answers with an error.
    policies = [
        make(f"{name}-{part}" if part else name, manifest, parent)
        for part, manifest in (wanted(name, namespace, names, endpoint) if wanted else {}).items()
    ]
    if endpoint.rollout and endpoint.rollout.flagger:
        url, _ = addresses(name, settings)
        return flagger.route(name, namespace, parent_ref, endpoint, settings, url, policies, parent)
    rest_route = http_route(name, namespace, parent_ref, names, endpoint, settings)
    remote_route = grpc_route(name, namespace, parent_ref, names, endpoint, settings)
    kept = Weights(name, endpoint, parent) if endpoint.rollout else None
    if kept:
        rest_route["spec"]["rules"] = kept.made(lambda now: http_rules(name, names, now, settings))
        remote_route["spec"]["rules"] = kept.made(lambda now: grpc_rules(names, now, settings))
    http = make(name, rest_route, parent, after=policies)
    grpc = make(name, remote_route, parent, after=policies)
    rest, remote = addresses(name, settings)
    return RouteParts(http.known(rest), grpc.known(remote), kept.traffic if kept else None)


def _first(service: str) -> str:
    return service.split(".")[0]


def _second(service: str) -> str:
    return service.split(".")[1]


def addresses(name: str, settings: GatewaySettings) -> tuple[str, str]:
    """The base URL for REST and `host:port` for gRPC."""
    port = settings.public_port or settings.listens_on
    scheme, usual = ("https", 443) if settings.tls else ("http", 80)
    shown = "" if port == usual else f":{port}"
    return f"{scheme}://{name}.{settings.domain}{shown}", f"{name}-grpc.{settings.domain}:{port}"


def http_route(
    name: str,
    namespace: Input[str],
    gateway: Input[Manifest],
    services: Mapping[str, Input[str]],
    endpoint: Endpoint,
    settings: GatewaySettings,
) -> Manifest:
    """The route of REST requests; `gateway` is the reference to it."""
    rules = http_rules(name, services, endpoint, settings)
    return _route("HTTPRoute", name, namespace, gateway, f"{name}.{settings.domain}", rules)


def grpc_route(
    name: str,
    namespace: Input[str],
    gateway: Input[Manifest],
    services: Mapping[str, Input[str]],
    endpoint: Endpoint,
    settings: GatewaySettings,
) -> Manifest:
    """The route of gRPC requests; `gateway` is the reference to it."""
    rules = grpc_rules(services, endpoint, settings)
    return _route("GRPCRoute", name, namespace, gateway, f"{name}-grpc.{settings.domain}", rules)


def _route(
    kind: str,
    name: str,
    namespace: Input[str],
    gateway: Input[Manifest],
    host: str,
    rules: Iterator[Manifest],
) -> Manifest:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": meta(name, namespace, labels_of("route", name)),
        "spec": {"parentRefs": [gateway], "hostnames": [host], "rules": [*rules]},
    }


def parent_of(gateway: str) -> Manifest:
    """The reference to the gateway, whose handle is `namespace/name`."""
    namespace, _, name = gateway.rpartition("/")
    return reference("Gateway", name, "gateway.networking.k8s.io") | {"namespace": namespace}


def http_rules(
    name: str, services: Mapping[str, Input[str]], endpoint: Endpoint, settings: GatewaySettings
) -> Iterator[Manifest]:
    """The weights first, then pins, then a pin that names nobody.

    Who is asked for by name wins wherever its rule stands, as it matches more. The weights stand first since
    a gateway may know a rule by its number: theirs must not change when a variant comes or goes.
    """
    features = CLASSES[settings.implementation].features
    common: Manifest = {}
    if Feature.TIMEOUT in features:
        common["timeouts"] = {"request": seconds(endpoint.timeout_ms or 30_000)}
    path = {"type": "PathPrefix", "value": "/"}
    named = Feature.VARIANT_HEADER in features
    rule = common | {
        "matches": [{"path": path}],
        "backendRefs": weighted(services, endpoint, "http", settings),
    }
    if endpoint.shadow:
        rule["filters"] = [mirror(services, endpoint, "http")]
    yield rule
    pin = endpoint.pin_header or "x-variant"
    for variant in endpoint.variants:
        backend = backend_ref(variant, services[variant], "http", 100, named=named)
        header = {"type": "Exact", "name": pin, "value": variant}
        yield common | {"matches": [{"path": path, "headers": [header]}], "backendRefs": [backend]}
    if Feature.UNKNOWN_PIN in features:
        # Who asks for a variant by name must not get another one by chance.
        header = {"type": "RegularExpression", "name": pin, "value": ".*"}
        answer = {"type": "ExtensionRef", "extensionRef": envoy_gateway.unknown_pin_reference(name)}
        yield {"matches": [{"path": path, "headers": [header]}], "filters": [answer]}


def grpc_rules(
    services: Mapping[str, Input[str]], endpoint: Endpoint, settings: GatewaySettings
) -> Iterator[Manifest]:
    """The weights, then pins."""
    rule: Manifest = {"backendRefs": weighted(services, endpoint, "grpc", settings)}
    if endpoint.shadow:
        rule["filters"] = [mirror(services, endpoint, "grpc")]
    yield rule
    named = Feature.VARIANT_HEADER in CLASSES[settings.implementation].features
    pin = endpoint.pin_header or "x-variant"
    for variant in endpoint.variants:
        header = {"type": "Exact", "name": pin, "value": variant}
        backend = backend_ref(variant, services[variant], "grpc", 100, named=named)
        yield {"matches": [{"headers": [header]}], "backendRefs": [backend]}


def weighted(
    services: Mapping[str, Input[str]], endpoint: Endpoint, port: str, settings: GatewaySettings
) -> list[Manifest]:
    """Every variant with its share.

    Envoy Gateway makes a cluster of Envoy's for each place in this list that has a weight, named for its
    number, and takes the cluster away before the route that still chooses it: requests in between are
    answered 500. So a place is kept when its variant has no share any more, and leads to the variant with the
    largest, for a millionth of the requests. The largest comes first: the places that go with a variant are
    then those that nothing goes through.
    """
    named = Feature.VARIANT_HEADER in CLASSES[settings.implementation].features
    places = [*endpoint.shares.items()]
    if settings.implementation is GatewayClass.ENVOY:
        places.sort(key=lambda place: -place[1])
        largest, least = places[0][0], places[-1][1]
        if least == 0:
            percent = _MILLION // 100
            places = [(name, share * percent) if share else (largest, 1) for name, share in places]
    return [backend_ref(variant, services[variant], port, share, named=named) for variant, share in places]


def backend_ref(variant: str, service: Input[str], port: str, weight: int, *, named: bool) -> Manifest:
    """A variant and its share; `named`: tell clients who answered, as the local gateway does."""
    found = reference("Service", service) | {"port": PORTS[port], "weight": weight}
    if named:
        header = {"name": "x-variant", "value": variant}
        found["filters"] = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [header]}}]
    return found


def mirror(services: Mapping[str, Input[str]], endpoint: Endpoint, port: str) -> Manifest:
    """The copy of requests for the shadow."""
    shadow = endpoint.shadow
    if shadow is None:
        raise ValueError("the endpoint has no shadow")
    target = reference("Service", services[shadow.variant]) | {"port": PORTS[port]}
    copy: Manifest = {"backendRef": target}
    percent = 100.0 if shadow.percent is None else shadow.percent
    if percent < 100:
        copy["fraction"] = {"numerator": round(percent * 10_000), "denominator": 1_000_000}
    return {"type": "RequestMirror", "requestMirror": copy}
