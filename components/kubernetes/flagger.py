"""An endpoint whose weights Flagger moves: its Canary, from which Flagger makes route and second variant.

Flagger holds a number against a threshold, which is wrong the more often the oftener one looks. So it is
given no metrics and asks the gate (`estate rollout gate`) instead: it goes on when the evidence of a step is
there, and rolls back as soon as there is evidence against the new version.
"""

import json
from collections.abc import Sequence

from pulumi import Input, Resource

from ..platform import RouteParts
from ..spec import Endpoint, GatewaySettings
from ..spec.flagger import FlaggerAlerts
from .model_server import PORTS
from .objects import Manifest, labels_of, make, meta, seconds

_API = "flagger.app/v1beta1"
_PROVIDER = "gatewayapi:v1"
_INITIALIZED_S = 600


def route(
    name: str,
    namespace: Input[str],
    gateway: Input[Manifest],
    endpoint: Endpoint,
    settings: GatewaySettings,
    url: str,
    policies: Sequence[Resource],
    parent: Resource,
) -> RouteParts:
    """The Canary. There is no address for gRPC: Flagger makes routes for HTTP only.

    Args:
        name: of the endpoint.
        namespace: that of its servers, known once they are there.
        gateway: the reference to the gateway.
        endpoint: its block.
        settings: those of the gateway.
        url: the address that the route is for.
        policies: what has to be there before the route.
        parent: the component that it belongs to.
    """
    rollout = endpoint.rollout
    wanted = rollout.flagger if rollout else None
    if wanted and wanted.alerts:
        made = make(f"{name}-alerts", alert_provider(f"{name}-alerts", namespace, wanted.alerts), parent)
        policies = [*policies, made]
    manifest = canary(name, namespace, gateway, endpoint, settings)
    there = make(name, manifest, parent, after=policies, timeout_s=_INITIALIZED_S)
    return RouteParts(there.known(url), there.known(""))


def canary(
    name: str,
    namespace: Input[str],
    gateway: Input[Manifest],
    endpoint: Endpoint,
    settings: GatewaySettings,
) -> Manifest:
    """What Flagger is told."""
    # Ready is when Flagger has made the copy that serves: until then there is no route.
    annotations = {"pulumi.com/waitFor": "condition=Promoted"}
    (variant,) = endpoint.variants
    target = f"{name}-{variant}"
    return {
        "apiVersion": _API,
        "kind": "Canary",
        "metadata": meta(name, namespace, labels_of("route", name), annotations),
        "spec": {
            "provider": _PROVIDER,
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "service": {
                "name": name,
                "port": PORTS["http"],
                "portName": "http",
                "targetPort": "http",
                "appProtocol": "http",
                "timeout": seconds(endpoint.timeout_ms or 30_000),
                "hosts": [f"{name}.{settings.domain}"],
                "gatewayRefs": [gateway],
            },
            "analysis": analysis(name, target, endpoint),
        },
    }


def analysis(name: str, target: str, endpoint: Endpoint) -> Manifest:
    """The steps, and whom to ask before each of them.

    Raises:
        ValueError: the endpoint is not Flagger's.
    """
    rollout = endpoint.rollout
    if rollout is None or rollout.flagger is None:
        raise ValueError(f"endpoint {name} is not Flagger's")
    wanted = rollout.flagger
    # All values are text there, so the block travels as JSON.
    block = rollout.model_dump(mode="json", exclude_unset=True, exclude={"flagger", "weights"})
    told = {"endpoint": name, "target": target, "rollout": json.dumps(block, sort_keys=True)}

    def ask(kind: str, path: str) -> Manifest:
        url = f"{wanted.gate}/{path}"
        return {"name": kind, "type": kind, "url": url, "timeout": "30s", "metadata": told}

    found: Manifest = {
        "interval": f"{wanted.interval_s or 10}s",
        "threshold": 1,
        "stepWeights": [step.percent for step in rollout.plan],
        "webhooks": [
            ask("confirm-traffic-increase", "promote"),
            ask("confirm-promotion", "promote"),
            ask("rollback", "rollback"),
        ],
    }
    if wanted.alerts:
        provider = {"name": f"{name}-alerts"}
        found["alerts"] = [{"name": "estate", "severity": "info", "providerRef": provider}]
    return found


def alert_provider(name: str, namespace: Input[str], alerts: FlaggerAlerts) -> Manifest:
    """Whom Flagger tells."""
    kind = alerts.kind.value if alerts.kind else "slack"
    spec: Manifest = {"type": kind, "secretRef": {"name": alerts.secret}}
    if alerts.channel:
        spec["channel"] = alerts.channel
    return {
        "apiVersion": _API,
        "kind": "AlertProvider",
        "metadata": meta(name, namespace, labels_of("route", name)),
        "spec": spec,
    }
