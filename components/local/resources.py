"""The resources of the local platform as a Pulumi program declares them; `kinds/` makes them so."""

from collections.abc import Mapping, Sequence

import pulumi
from pulumi import Input, Output, ResourceOptions

from ..platform import ModelService
from ..spec import Endpoint


class Host(pulumi.CustomResource):
    """This machine as the platform of one stack: its state folder and its process supervisor."""

    folder: Output[str]

    def __init__(self, name: str, folder: str, opts: ResourceOptions | None = None) -> None:
        """`folder`: the absolute path of the state folder, which is the host's alone."""
        super().__init__("serving-estate:local:Host", name, {"folder": folder, "running": True}, opts)


class Registry(pulumi.CustomResource):
    """An MLflow server."""

    url: Output[str]

    def __init__(self, name: str, host: Input[str], opts: ResourceOptions | None = None) -> None:
        """`host`: the state folder of the host that runs it."""
        super().__init__(
            "serving-estate:local:Registry", name, {"host": host, "name": name, "url": None}, opts
        )


class Job(pulumi.CustomResource):
    """A program that is run to its end once, and again when its inputs change."""

    def __init__(
        self,
        name: str,
        host: Input[str],
        command: Sequence[str],
        env: Mapping[str, Input[str]],
        directory: str,
        opts: ResourceOptions | None = None,
    ) -> None:
        """`command` and `env`: what is run; `directory`: the folder it is run in."""
        inputs = {"host": host, "name": name, "command": command, "env": env, "directory": directory}
        super().__init__("serving-estate:local:Job", name, inputs, opts)


class ModelServer(pulumi.CustomResource):
    """The replicas that serve one variant's model."""

    service: Output[str]
    addresses: Output[list[str]]

    def __init__(
        self,
        name: str,
        host: Input[str],
        service: ModelService,
        opts: ResourceOptions | None = None,
    ) -> None:
        """`service`: what is served; of its fields, those that matter to processes of one machine."""
        inputs = {
            "host": host,
            "name": name,
            "model": service.model,
            "served_name": service.served_name,
            "runtime": service.runtime,
            "registry": service.registry,
            "replicas": service.replicas,
            "variant": service.labels.get("serving-estate/variant"),
            "stands_in": "serving-estate/stands-in" in service.labels,
            "memory_mib": service.resources.memory_limit_mib,
            "fallback": service.fallback_rungs or None,
            "timeout_ms": service.timeout_ms if service.fallback else None,
            "service": None,
            "addresses": None,
        }
        super().__init__("serving-estate:local:ModelServer", name, inputs, opts)


class Gateway(pulumi.CustomResource):
    """An Envoy."""

    config: Output[str]
    admin: Output[str]

    def __init__(self, name: str, host: Input[str], opts: ResourceOptions | None = None) -> None:
        """`host`: the state folder of the host that runs it."""
        inputs = {"host": host, "name": name, "config": None, "admin": None}
        super().__init__("serving-estate:local:Gateway", name, inputs, opts)


class Route(pulumi.CustomResource):
    """The way from an endpoint's address to its variants."""

    url: Output[str]
    grpc: Output[str]
    traffic: Output[dict[str, int]]

    def __init__(
        self,
        name: str,
        gateway: Input[str],
        services: Mapping[str, Input[str]],
        endpoint: Endpoint,
        opts: ResourceOptions | None = None,
    ) -> None:
        """`services`: the `service` of each variant's servers; `endpoint`: how requests are divided."""
        users = endpoint.users
        inputs = {
            "name": name,
            "gateway": gateway,
            "services": services,
            "traffic": endpoint.shares,
            "shadow": endpoint.shadow.model_dump() if endpoint.shadow else None,
            "users": users.model_dump(exclude_none=True) if users else None,
            "pin_header": endpoint.pin_header,
            "timeout_ms": endpoint.timeout_ms,
            "retries": endpoint.retries,
            "stand_in": endpoint.stand_in,
            "url": None,
            "grpc": None,
        }
        super().__init__("serving-estate:local:Route", name, inputs, opts)
