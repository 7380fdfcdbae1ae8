"""The way in: a Gateway of the Gateway API.

Every endpoint has host names below one domain, so one listener with one wildcard name, and one wildcard
certificate, serve any number of endpoints; adding an endpoint never touches the gateway.
"""

from pulumi import Input, Output, Resource

from ..platform import GatewayParts
from ..spec import GatewaySettings
from ..spec.gateway import Tls
from ..spec.gateway_classes import CLASSES, GatewayClass
from .aws import load_balancer
from .objects import Manifest, checked_name, labels_of, make, meta

_PROGRAMMED_S = 300


def gateway(name: str, host: Input[str], settings: GatewaySettings, parent: Resource) -> GatewayParts:
    """A Gateway, or the existing one that the settings name."""
    if settings.existing:
        there = Output.from_input(settings.existing)
        return GatewayParts(there, there)
    checked_name("Gateway", name)
    first = []
    if settings.implementation is GatewayClass.AWS_ALB and not settings.parameters:
        first.append(make(f"{name}-load-balancer", load_balancer(name, host, settings), parent))
    made = make(name, gateway_object(name, host, settings), parent, after=first, timeout_s=_PROGRAMMED_S)
    return GatewayParts(made.known(Output.concat(host, "/", name)), made.status.apply(address))


def address(status: object) -> str:
    """Where a gateway is reached, as its controller says; empty where it does not say."""
    found = status.get("addresses") if isinstance(status, dict) else None
    return str(found[0].get("value", "")) if found else ""


def terminates(tls: Tls, kind: GatewayClass) -> Manifest:
    """Where a listener has its certificate from, as fields of it; none where its class is told otherwise."""
    if tls.secret:
        certificate = {"group": "", "kind": "Secret", "name": tls.secret}
        return {"tls": {"mode": "Terminate", "certificateRefs": [certificate]}}
    if kind is not GatewayClass.AWS_LATTICE:
        return {}
    # The Gateway API wants a reference to be there; this class never looks at it.
    found: Manifest = {
        "mode": "Terminate",
        "certificateRefs": [{"group": "", "kind": "Secret", "name": "unused"}],
    }
    if tls.certificate:
        found["options"] = {"application-networking.k8s.aws/certificate-arn": tls.certificate}
    return {"tls": found}


def gateway_object(name: str, namespace: Input[str], settings: GatewaySettings) -> Manifest:
    """The Gateway."""
    # Ready is when the data plane has it: a route that is tried earlier is answered by nobody.
    annotations = {"pulumi.com/waitFor": "condition=Programmed", **(settings.annotations or {})}
    listener: Manifest = {
        "name": "https" if settings.tls else "http",
        "protocol": "HTTPS" if settings.tls else "HTTP",
        "port": settings.listens_on,
        "hostname": f"*.{settings.domain}",
        "allowedRoutes": {"namespaces": {"from": "Same"}},
    }
    kind = settings.implementation
    if settings.tls:
        if settings.tls.issuer:
            annotations["cert-manager.io/cluster-issuer"] = settings.tls.issuer
        if settings.tls.certificate and kind is GatewayClass.GKE:
            annotations["networking.gke.io/certmap"] = settings.tls.certificate
        listener.update(terminates(settings.tls, kind))
    spec: Manifest = {
        "gatewayClassName": settings.class_name or CLASSES[kind].gateway_class,
        "listeners": [listener],
    }
    parameters = settings.parameters or (name if kind is GatewayClass.AWS_ALB else None)
    group_and_kind = CLASSES[kind].parameters
    if parameters and group_and_kind:
        group, kind_of = group_and_kind
        spec["infrastructure"] = {"parametersRef": {"group": group, "kind": kind_of, "name": parameters}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": meta(name, namespace, labels_of("gateway", name), annotations),
        "spec": spec,
    }
