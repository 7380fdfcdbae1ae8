"""The estate as processes of this machine: see `components.platform` for what each function is for."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pulumi
from pulumi import CustomTimeouts, Input, Output, Resource, ResourceOptions

from ..arguments import ArgumentsError
from ..platform import GatewayParts, ModelService, RouteParts, ServerParts
from ..spec import (
    Endpoint,
    GatewaySettings,
    GpuSettings,
    KubernetesSettings,
    MonitoringSettings,
    Registry,
    Scaling,
)
from .machine.ports import state_home
from .resources import Gateway, Host, Job, ModelServer, Route
from .resources import Registry as LocalRegistry

AUTOSCALES = False


def project_folder() -> Path:
    """The folder of the user's `Pulumi.yaml`.

    The engine tells it to programs only. Where a program of another package has a component constructed, that
    happens in the plugin, whose working directory is the program's (`main:` of the project file).
    """
    told = pulumi.get_root_directory()
    if told:
        return Path(told)
    here = Path.cwd()
    files = ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json")
    return next((at for at in (here, *here.parents) if any((at / file).exists() for file in files)), here)


def host(name: str, settings: KubernetesSettings, parent: Resource) -> Output[str]:  # noqa: ARG001
    """A state folder of its own for each project folder and stack, and a supervisor in it."""
    place = f"{project_folder()}:{pulumi.get_project()}:{pulumi.get_stack()}:{name}"
    digest = hashlib.sha256(place.encode()).hexdigest()[:8]
    folder = state_home() / f"{pulumi.get_project()}-{pulumi.get_stack()}-{digest}"
    return Host(f"{name}-host", str(folder), ResourceOptions(parent=parent)).folder


def registry(
    name: str,
    host: Input[str],
    spec: Registry,
    settings: KubernetesSettings,  # noqa: ARG001
    parent: Resource,
) -> Output[str]:
    """An MLflow server; the seed is run before anything can see its address."""
    opts = ResourceOptions(parent=parent)
    server = LocalRegistry(name, host, opts)
    if spec.seed is None:
        return server.url
    timeout = CustomTimeouts(create=f"{spec.seed.timeout_s}s", update=f"{spec.seed.timeout_s}s")
    env = {"MLFLOW_TRACKING_URI": server.url}
    job_opts = ResourceOptions.merge(opts, ResourceOptions(custom_timeouts=timeout))
    job = Job(f"{name}-seed", host, spec.seed.command, env, str(project_folder()), job_opts)
    return Output.all(server.url, job.id).apply(lambda done: str(done[0]))


def model_server(name: str, host: Input[str], service: ModelService, parent: Resource) -> ServerParts:
    """A process group."""
    if isinstance(service.model, str) and service.model.startswith("oci:"):
        message = "there are no containers here that an image could be mounted into; name a folder"
        raise ArgumentsError(f"ModelServer {name}", [(("model",), message)])
    server = ModelServer(name, host, service, ResourceOptions(parent=parent))
    return ServerParts(server.service, server.addresses)


def autoscaler(
    name: str,
    service: Input[str],
    scaling: Scaling,
    settings: KubernetesSettings,
    prometheus: str | None,
    endpoint: str | None,
    parent: Resource,
) -> None:
    """The machine's processes are as many as they always are."""


def gateway(name: str, host: Input[str], settings: GatewaySettings, parent: Resource) -> GatewayParts:  # noqa: ARG001
    """An Envoy."""
    envoy = Gateway(name, host, ResourceOptions(parent=parent))
    return GatewayParts(envoy.config, envoy.admin)


def route(
    name: str,
    gateway: Input[str],
    services: Mapping[str, Input[str]],
    endpoint: Endpoint,
    settings: GatewaySettings,  # noqa: ARG001
    parent: Resource,
) -> RouteParts:
    """A listener of the Envoy."""
    kept = ["traffic"] if endpoint.weights_are_kept else []
    way = Route(name, gateway, services, endpoint, ResourceOptions(parent=parent, ignore_changes=kept))
    return RouteParts(way.url, way.grpc, way.traffic)


def monitoring(
    name: str,
    host: Input[str],
    endpoints: Mapping[str, Endpoint],
    settings: MonitoringSettings,
    parent: Resource,
) -> None:
    """The servers' metrics are at `/metrics`; nobody collects them here."""


def gpu_stack(name: str, host: Input[str], settings: GpuSettings, parent: Resource) -> None:
    """The machine's driver is all there is."""
