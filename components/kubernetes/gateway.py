"""The way in: a Gateway of the Gateway API.

Every endpoint has host names below one domain, so one listener with one wildcard name, and one wildcard
certificate, serve any number of endpoints; adding an endpoint never touches the gateway.
"""

from pulumi import Input, Output, Resource

from ..platform import GatewayParts
from ..spec import GatewaySettings
from ..spec.gateway_classes import CLASSES
from .objects import Manifest, checked_name, labels_of, make, meta

_PROGRAMMED_S = 300


def gateway(name: str, host: Input[str], settings: GatewaySettings, parent: Resource) -> GatewayParts:
    """A Gateway, or the existing one that the settings name."""
    if settings.existing:
        there = Output.from_input(settings.existing)
        return GatewayParts(there, there)
    checked_name("Gateway", name)
    made = make(name, gateway_object(name, host, settings), parent, timeout_s=_PROGRAMMED_S)
    return GatewayParts(made.known(Output.concat(host, "/", name)), made.status.apply(address))


def address(status: object) -> str:
    """Where a gateway is reached, as its controller says; empty where it does not say."""
    found = status.get("addresses") if isinstance(status, dict) else None
    return str(found[0].get("value", "")) if found else ""


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
    if settings.tls:
        if settings.tls.issuer:
            annotations["cert-manager.io/cluster-issuer"] = settings.tls.issuer
        certificate = {"group": "", "kind": "Secret", "name": settings.tls.secret}
        listener["tls"] = {"mode": "Terminate", "certificateRefs": [certificate]}
    spec: Manifest = {
        "gatewayClassName": settings.class_name or CLASSES[settings.implementation].gateway_class,
        "listeners": [listener],
    }
    if settings.parameters:
        parameters = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": settings.parameters}
        spec["infrastructure"] = {"parametersRef": parameters}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": meta(name, namespace, labels_of("gateway", name), annotations),
        "spec": spec,
    }
