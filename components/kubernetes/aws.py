"""What AWS's load balancers need beyond the Gateway API, for each variant of an endpoint.

Without these, both ask `/` for health, where no model server answers 200, and an Application Load Balancer
sends to ports of nodes, which Services inside the cluster do not have.
"""

from collections.abc import Mapping

from pulumi import Input

from ..spec import Endpoint, GatewaySettings
from .model_server import PORTS
from .objects import Manifest, labels_of, meta, reference

_READY = "/v2/health/ready"
_GRPC_HEALTH = "/grpc.health.v1.Health/Check"
_LEAVING_S = 30  # for requests under way when a replica leaves


def alb_policies(
    name: str, namespace: Input[str], services: Mapping[str, Input[str]], endpoint: Endpoint
) -> dict[str, Manifest]:
    """A TargetGroupConfiguration for each variant, by the part of its name."""
    del endpoint
    return {
        f"{variant}-targets": target_groups(f"{name}-{variant}", namespace, service, name)
        for variant, service in services.items()
    }


def target_groups(name: str, namespace: Input[str], service: Input[str], route: str) -> Manifest:
    """How an Application Load Balancer reaches a variant: its pods, asked whether they are ready."""
    common = {
        "targetType": "ip",
        "targetGroupAttributes": [{"key": "deregistration_delay.timeout_seconds", "value": str(_LEAVING_S)}],
    }
    often = {
        "healthCheckInterval": 5,
        "healthCheckTimeout": 2,
        "healthyThresholdCount": 2,
        "unhealthyThresholdCount": 2,
    }
    rest = often | {
        "healthCheckPath": _READY,
        "healthCheckPort": str(PORTS["http"]),
        "healthCheckProtocol": "HTTP",
        "matcher": {"httpCode": "200"},
    }
    # Target groups of gRPC can be asked by gRPC only.
    remote = often | {"healthCheckPath": _GRPC_HEALTH, "matcher": {"grpcCode": "0"}}
    return {
        "apiVersion": "gateway.k8s.aws/v1beta1",
        "kind": "TargetGroupConfiguration",
        "metadata": meta(name, namespace, labels_of("route", name)),
        "spec": {
            "targetReference": reference("Service", service),
            "defaultConfiguration": common | {"healthCheckConfig": rest},
            "routeConfigurations": [
                {
                    "routeIdentifier": {"kind": "GRPCRoute", "namespace": namespace, "name": route},
                    "targetGroupProps": common | {"protocolVersion": "GRPC", "healthCheckConfig": remote},
                }
            ],
        },
    }


def lattice_policies(
    name: str, namespace: Input[str], services: Mapping[str, Input[str]], endpoint: Endpoint
) -> dict[str, Manifest]:
    """A TargetGroupPolicy for each variant, by the part of its name."""
    del endpoint
    return {
        f"{variant}-targets": target_group_policy(f"{name}-{variant}", namespace, service)
        for variant, service in services.items()
    }


def target_group_policy(name: str, namespace: Input[str], service: Input[str]) -> Manifest:
    """How VPC Lattice asks for health. That a GRPCRoute's targets speak gRPC it knows by the route."""
    return {
        "apiVersion": "application-networking.k8s.aws/v1alpha1",
        "kind": "TargetGroupPolicy",
        "metadata": meta(name, namespace, labels_of("route", name)),
        "spec": {
            "targetRef": reference("Service", service),
            "protocol": "HTTP",
            "protocolVersion": "HTTP1",
            "healthCheck": {
                "enabled": True,
                "intervalSeconds": 5,
                "timeoutSeconds": 2,
                "healthyThresholdCount": 2,
                "unhealthyThresholdCount": 2,
                "path": _READY,
                "port": PORTS["http"],
                "protocol": "HTTP",
                "protocolVersion": "HTTP1",
                "statusMatch": "200",
            },
        },
    }


def load_balancer(name: str, namespace: Input[str], settings: GatewaySettings) -> Manifest:
    """How the Application Load Balancer of a gateway is made, where the stack file says so."""
    spec: Manifest = {"scheme": "internet-facing" if settings.public else "internal"}
    if settings.tls and settings.tls.certificate:
        listener = {
            "protocolPort": f"HTTPS:{settings.listens_on}",
            "defaultCertificate": settings.tls.certificate,
        }
        spec["listenerConfigurations"] = [listener]
    return {
        "apiVersion": "gateway.k8s.aws/v1beta1",
        "kind": "LoadBalancerConfiguration",
        "metadata": meta(name, namespace, labels_of("gateway", name)),
        "spec": spec,
    }
