"""The plugin's process: a gRPC server on loopback whose port is the first line of its output."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from .engine import Engine
from .servicer import KubernetesServicer

# Nearly all of a request's time is spent waiting for the cluster, and the engine has as many requests
# under way as its `--parallel` says; a request that finds no thread would wait for another one's rollout.
THREADS = 256
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def main(arguments: list[str]) -> None:
    """Serve until the engine ends this process, or is gone itself."""
    server = grpc.server(ThreadPoolExecutor(THREADS), options=UNLIMITED)
    servicer = KubernetesServicer(Engine(arguments[0] if arguments else None))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)

    over = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        over.set()

    # The engine ends a plugin by SIGINT, and by SIGKILL 5 s later. Ctrl-C does not come here: a plugin is in
    # a process group of its own, and the engine asks for cancellation in its own words.
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    engine = os.getppid()
    # An engine that was killed cannot say so, and its plugins must not outlive it.
    while not over.wait(1) and os.getppid() == engine:
        pass
    servicer.cancelled.set()
    server.stop(grace=None)
    os._exit(0)  # a thread may be waiting for a rollout still
