"""What Envoy Gateway can do beyond the Gateway API: its policies for one endpoint."""

import json
from collections.abc import Mapping

from pulumi import Input

from ..spec import Access, Endpoint, Protection
from .objects import Manifest, labels_of, meta, reference, seconds

_API = "gateway.envoyproxy.io/v1alpha1"
_GROUP = "gateway.envoyproxy.io"
# Envoy's own limits, 1024 each, would refuse what the servers could still queue: they bound their queues
# themselves and answer 429 or 503, which say when to come back.
_NO_LIMIT = 65_536


def policies(
    name: str, namespace: Input[str], services: Mapping[str, Input[str]], endpoint: Endpoint
) -> dict[str, Manifest]:
    """The policies by the part of the name of each."""
    del services
    found = {
        "": backend_traffic(name, namespace, endpoint),
        "unknown-pin": unknown_pin(name, namespace, endpoint),
    }
    if endpoint.access:
        found["access"] = security(name, namespace, endpoint.access)
    return found


def _targets(name: str) -> list[Manifest]:
    return [reference(kind, name, "gateway.networking.k8s.io") for kind in ("HTTPRoute", "GRPCRoute")]


def backend_traffic(name: str, namespace: Input[str], endpoint: Endpoint) -> Manifest:
    """Retries, time limit, circuit breaker, outlier detection and rate limit."""
    protection = endpoint.protection or Protection()
    spec: Manifest = {
        "targetRefs": _targets(name),
        "loadBalancer": load_balancer(endpoint),
        "circuitBreaker": {
            "maxConnections": _NO_LIMIT,
            "maxPendingRequests": protection.max_requests or _NO_LIMIT,
            "maxParallelRequests": protection.max_requests or _NO_LIMIT,
            "maxParallelRetries": 1024,
        },
        "timeout": {
            "tcp": {"connectTimeout": "1s"},
            "http": {"requestTimeout": seconds(endpoint.timeout_ms or 30_000)},
        },
    }
    retries = 3 if endpoint.retries is None else endpoint.retries
    if retries:
        # Only requests whose connection failed or was cut: inference changes nothing, so they may be sent
        # again. Answers, errors included, are for the client to read.
        spec["retry"] = {
            "numRetries": retries,
            "retryOn": {"triggers": ["connect-failure", "refused-stream", "reset"]},
            "perRetry": {"backOff": {"baseInterval": "100ms", "maxInterval": "1s"}},
        }
    if protection.eject_after_errors:
        spec["healthCheck"] = {
            "passive": {
                "consecutive5XxErrors": protection.eject_after_errors,
                "interval": "2s",
                "baseEjectionTime": f"{protection.eject_s or 30}s",
                # Half of the replicas go on even if all of them look bad: it may be the requests.
                "maxEjectionPercent": 50,
            }
        }
    if endpoint.rate_limit and endpoint.rate_limit.per:
        limit = {"requests": endpoint.rate_limit.requests, "unit": endpoint.rate_limit.per.value.capitalize()}
        spec["rateLimit"] = {"type": "Local", "local": {"rules": [{"limit": limit}]}}
    return {
        "apiVersion": _API,
        "kind": "BackendTrafficPolicy",
        "metadata": meta(name, namespace, labels_of("route", name)),
        "spec": spec,
    }


def load_balancer(endpoint: Endpoint) -> Manifest:
    """Who of the replicas is asked; with `users`, the variant is chosen by the same hash."""
    if endpoint.users is None:
        # Taking turns: by the shortest queue a dead replica, which holds none, would be chosen first.
        return {"type": "RoundRobin"}
    told: Manifest = {"type": "Headers", "headers": [{"name": endpoint.users.header}]}
    if endpoint.users.cookie:
        told = {"type": "Cookie", "cookie": {"name": endpoint.users.cookie}}
    return {"type": "ConsistentHash", "consistentHash": told}


def security(name: str, namespace: Input[str], access: Access) -> Manifest:
    """Who may ask."""
    spec: Manifest = {"targetRefs": _targets(name)}
    if access.jwt:
        provider: Manifest = {
            "name": "issuer",
            "issuer": access.jwt.issuer,
            "remoteJWKS": {"uri": access.jwt.jwks_uri},
        }
        if access.jwt.audiences:
            provider["audiences"] = list(access.jwt.audiences)
        spec["jwt"] = {"providers": [provider]}
    if access.api_keys:
        spec["apiKeyAuth"] = {
            "credentialRefs": [reference("Secret", access.api_keys.secret)],
            "extractFrom": [{"headers": [access.api_keys.header or "x-api-key"]}],
            "sanitize": True,  # no model server, nor its logs, needs to see the key
        }
    return {
        "apiVersion": _API,
        "kind": "SecurityPolicy",
        "metadata": meta(name, namespace, labels_of("route", name)),
        "spec": spec,
    }


def unknown_pin_reference(name: str) -> Manifest:
    """What a rule refers to that answers a pin which names nobody."""
    return reference("HTTPRouteFilter", f"{name}-unknown-pin", _GROUP)


def unknown_pin(name: str, namespace: Input[str], endpoint: Endpoint) -> Manifest:
    """The answer to a pin which names nobody, in the shape of every other error."""
    message = (
        f"gateway: endpoint {name} has no variant of the name in header {endpoint.pin_header}; "
        f"it has {', '.join(endpoint.variants)}"
    )
    return {
        "apiVersion": _API,
        "kind": "HTTPRouteFilter",
        "metadata": meta(f"{name}-unknown-pin", namespace, labels_of("route", name)),
        "spec": {
            "directResponse": {
                "statusCode": 404,
                "contentType": "application/json",
                "body": {"type": "Inline", "inline": json.dumps({"error": message})},
            }
        },
    }
