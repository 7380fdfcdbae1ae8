"""What Google's load balancers need beyond the Gateway API, for each variant of an endpoint."""

from collections.abc import Mapping

from pulumi import Input

from ..spec import Endpoint
from .model_server import PORTS
from .objects import Manifest, labels_of, meta, reference

_API = "networking.gke.io/v1"


def policies(
    name: str, namespace: Input[str], services: Mapping[str, Input[str]], endpoint: Endpoint
) -> dict[str, Manifest]:
    """The policies by the part of the name of each."""
    found: dict[str, Manifest] = {}
    for variant, service in services.items():
        found[f"{variant}-health"] = health_check(f"{name}-{variant}", namespace, service)
        found[f"{variant}-backend"] = backend(f"{name}-{variant}", namespace, service, endpoint)
    return found


def health_check(name: str, namespace: Input[str], service: Input[str]) -> Manifest:
    """Without it `/` is asked, where no model server answers 200, and nobody ever gets a request."""
    check = {"port": PORTS["http"], "requestPath": "/v2/health/ready", "portSpecification": "USE_FIXED_PORT"}
    config = {"type": "HTTP", "httpHealthCheck": check}
    return {
        "apiVersion": _API,
        "kind": "HealthCheckPolicy",
        "metadata": meta(name, namespace, labels_of("route", name)),
        "spec": {
            "default": {"checkIntervalSec": 2, "timeoutSec": 2, "config": config},
            "targetRef": reference("Service", service),
        },
    }


def backend(name: str, namespace: Input[str], service: Input[str], endpoint: Endpoint) -> Manifest:
    """The time limit, which routes do not have here, and time for requests under way when a replica
    leaves."""
    return {
        "apiVersion": _API,
        "kind": "GCPBackendPolicy",
        "metadata": meta(name, namespace, labels_of("route", name)),
        "spec": {
            "default": {
                "timeoutSec": max(1, round((endpoint.timeout_ms or 30_000) / 1000)),
                "connectionDraining": {"drainingTimeoutSec": 30},
            },
            "targetRef": reference("Service", service),
        },
    }
