"""The provider's side of Pulumi's plugin protocol for the package's own resources.

It only translates: properties to plain values, errors to messages, and each call to the kind that the
resource's type names.
"""

import asyncio
import re
import xmlrpc.client
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Event
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.provider.server import ProviderServicer
from pulumi.runtime.proto import provider_pb2 as pb

from .kind import Cancelled, Gone, Kind
from .wire import plain, secret_keys, struct


class ResourceServicer(ProviderServicer):
    """Adds the life cycle of the resources `serving-estate:<platform>:*` to a component provider."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Takes what `ProviderServicer` takes."""
        super().__init__(*args, **kwargs)
        self._cancelled = Event()
        # Most of the time is spent waiting for processes, so more threads than cores.
        self._threads = ThreadPoolExecutor(max_workers=32)

    async def _run(self, context: Any, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except Cancelled:
            await context.abort(grpc.StatusCode.CANCELLED, "cancelled")
        except (RuntimeError, OSError, ValueError, xmlrpc.client.Error) as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))

    async def _kind(self, urn: str, context: Any) -> Kind:
        platform, name = urn.split("::")[2].rsplit("$", 1)[-1].split(":")[1:]
        try:
            # Loaded when a resource of it is asked for: a stack of a cluster has none that needs the packages
            # of `platform: local`.
            module = import_module(f"..{platform}.kinds.{_snake(name)}", __package__)
        except ImportError as error:
            await context.abort(
                grpc.StatusCode.UNKNOWN,
                f"`platform: {platform}` needs packages that are not installed ({error}); install them with "
                f"`pip install 'serving-estate[{platform}]'`",
            )
        made: Kind = getattr(module, name)(self._cancelled)
        return made

    async def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002, D102
        return pb.CheckResponse(inputs=request.news)

    async def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002, D102
        return pb.DiffResponse(changes=pb.DiffResponse.DIFF_NONE)

    async def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002, D102
        # Without secrets the engine lets no component be constructed for a program of another package.
        return pb.ConfigureResponse(supportsPreview=True, acceptSecrets=True, acceptResources=False)

    async def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002, D102
        self._cancelled.set()
        return empty_pb2.Empty()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002, D102
        return pb.CheckResponse(inputs=request.news)

    async def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        old, new = plain(request.old_inputs), plain(request.news)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        kind = await self._kind(request.urn, context)
        return pb.DiffResponse(
            changes=pb.DiffResponse.DIFF_SOME if changed else pb.DiffResponse.DIFF_NONE,
            diffs=changed,
            replaces=[key for key in changed if key in kind.replaces],
            # A new one at the same place cannot stand beside the old one.
            deleteBeforeReplace=True,
        )

    async def Create(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        new, kind = plain(request.properties), await self._kind(request.urn, context)
        secret = secret_keys(request.properties)
        if request.preview:
            return pb.CreateResponse(properties=struct({**new, **kind.preview(new, None)}, secret))
        outputs = await self._run(context, lambda: kind.apply(new, request.timeout))
        return pb.CreateResponse(id=_id(new), properties=struct({**new, **outputs}, secret))

    async def Update(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        old, new, kind = plain(request.olds), plain(request.news), await self._kind(request.urn, context)
        secret = secret_keys(request.news)
        if request.preview:
            return pb.UpdateResponse(properties=struct({**new, **kind.preview(new, old)}, secret))
        outputs = await self._run(context, lambda: kind.apply(new, request.timeout))
        return pb.UpdateResponse(properties=struct({**new, **outputs}, secret))

    async def Read(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        state, inputs, kind = (
            plain(request.properties),
            plain(request.inputs),
            await self._kind(request.urn, context),
        )
        if not state:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                "resources of this package cannot be imported: they belong to the stack that made them",
            )
        try:
            found = await self._run(context, lambda: kind.read(state))
        except Gone:
            return pb.ReadResponse()
        inputs = {key: found[key] for key in inputs}
        secret = secret_keys(request.properties, request.inputs)
        return pb.ReadResponse(id=request.id, properties=struct(found, secret), inputs=struct(inputs, secret))

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        state, kind = plain(request.properties), await self._kind(request.urn, context)
        await self._run(context, lambda: kind.delete(state))
        return empty_pb2.Empty()


def _snake(name: str) -> str:
    """`ModelServer` is made in `model_server.py`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _id(properties: Mapping[str, Any]) -> str:
    return str(properties.get("name") or properties["folder"])
