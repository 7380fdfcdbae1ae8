"""The plugin `serving-estate`: one process that is component package and provider of its own resources."""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from functools import cached_property
from typing import Any

import grpc
import pulumi
from pulumi.provider.provider import ConstructResult, Provider
from pulumi.resource import ResourceOptions
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2_grpc

from . import (
    autoscaler,
    estate,
    gateway,
    gpu_stack,
    model_endpoint,
    model_registry,
    model_server,
    monitoring,
    rollout_gate,
    rollout_job,
    traffic_route,
)
from .construct import Constructor
from .provider.servicer import ResourceServicer

NAME = "serving-estate"
VERSION = "0.1.0"

COMPONENTS: list[type[pulumi.ComponentResource]] = [
    autoscaler.Autoscaler,
    estate.Estate,
    gateway.Gateway,
    gpu_stack.GpuStack,
    model_endpoint.ModelEndpoint,
    model_registry.ModelRegistry,
    model_server.ModelServer,
    monitoring.Monitoring,
    rollout_gate.RolloutGate,
    rollout_job.RolloutJob,
    traffic_route.TrafficRoute,
]


class EstateProvider(Provider):
    """The components; their analysis is put off until somebody asks, since a local stack never does."""

    def __init__(self) -> None:
        """Nothing is analysed yet."""
        super().__init__(VERSION)

    @cached_property
    def _components(self) -> Constructor:
        return Constructor(COMPONENTS, NAME, version=VERSION)

    def get_schema(self) -> str:
        """The package schema."""
        from .package_schema import completed  # nobody asks while a local stack runs

        return json.dumps(completed(json.loads(str(self._components.schema))))

    @property
    def schema(self) -> str | None:
        """The package schema, as the SDK's servicer asks for it."""
        return self.get_schema()

    @schema.setter
    def schema(self, value: str | None) -> None:
        """Set by the base class only, to nothing."""

    def construct(
        self, name: str, resource_type: str, inputs: Any, options: ResourceOptions | None = None
    ) -> ConstructResult:
        """Make a component for a program of another package."""
        return self._components.construct(name, resource_type, inputs, options)


def _end_with_the_engine() -> None:
    """Leave when the process that started the plugin is gone: a killed engine cannot say good-bye."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Serve the engine until it ends; the port goes to standard output, as the protocol wants."""
    _end_with_the_engine()
    engine = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")

    async def serve() -> None:
        server = grpc.aio.server(options=_GRPC_CHANNEL_OPTIONS)
        servicer = ResourceServicer(EstateProvider(), sys.argv[1:], engine_address=engine)
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await server.wait_for_termination()

    # What is interrupted is found again by the next run; Python's own way out would print a traceback.
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    asyncio.run(serve())
