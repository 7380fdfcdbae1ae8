"""A provider that answers at once: what is measured beside it is the program and the engine.

It counts the objects that it was asked for, and adds up digests of them, so that two programs can be told to
ask for the same.
"""

import json
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any


def _skip_contents(*packages: str) -> None:
    """Import modules in these packages without what the packages themselves import."""
    for name in packages:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            bare = ModuleType(name)
            bare.__path__ = list(spec.submodule_search_locations)
            sys.modules[name] = bare


_skip_contents("pulumi", "pulumi.runtime")

import grpc  # noqa: E402
from google.protobuf import empty_pb2  # noqa: E402
from google.protobuf.json_format import MessageToDict  # noqa: E402
from google.protobuf.struct_pb2 import Struct  # noqa: E402
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc  # noqa: E402

# ruff: noqa: ARG002  the protocol says what a method is given


class Answers(provider_pb2_grpc.ResourceProviderServicer):
    """Says yes to everything."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self.seen = 0
        self.digest = 0
        self._lock = threading.Lock()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version="4.0.0")

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=True
        )

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        text = json.dumps(MessageToDict(request.news), sort_keys=True)
        with self._lock:
            self.seen += 1
            # A sum does not depend on the order in which they come.
            self.digest += int.from_bytes(sha256(text.encode()).digest()[:6], "big")
        inputs = Struct()
        inputs.CopyFrom(request.news)
        metadata = inputs.get_or_create_struct("metadata")
        if "name" not in metadata:
            # As the official provider does: what has no name gets one and keeps it.
            before = request.olds["metadata"]["name"] if "metadata" in request.olds else None
            metadata["name"] = (
                before or f"{request.urn.rpartition('::')[2]}-{sha256(text.encode()).hexdigest()[:8]}"
            )
        return provider_pb2.CheckResponse(inputs=inputs)

    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        before, after = MessageToDict(request.old_inputs), MessageToDict(request.news)
        same = provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(
            changes=same if before == after else provider_pb2.DiffResponse.DIFF_SOME
        )

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.UpdateResponse(properties=request.news)

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.CreateResponse(
            id="" if request.preview else "made", properties=request.properties
        )

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()


def main() -> None:
    """Serve until the engine ends this process, then write what was seen to the file in BENCH_SEEN."""
    answers = Answers()
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(16), options=unlimited)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(answers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    over = threading.Event()
    for ends in (signal.SIGINT, signal.SIGTERM):  # by which the engine ends a plugin
        signal.signal(ends, lambda *_: over.set())
    engine, file, written = os.getppid(), Path(os.environ.get("BENCH_SEEN", os.devnull)), -1
    while not over.wait(0.5) and os.getppid() == engine:
        # The engine may kill it without a word: what was seen is on the disk before that.
        if written != answers.seen:
            written = answers.seen
            file.write_text(json.dumps({"objects": written, "digest": answers.digest}))
    file.write_text(json.dumps({"objects": answers.seen, "digest": answers.digest}))
    os._exit(0)


if __name__ == "__main__":
    main()
