"""gRPC while the server starts, stops, and loses a worker."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_calls import Http2, X, array, channel, code_of, request, slow, stub
from running_server import Server, wait_until
from test_process import two_models, worker_pids
from tritonclient.grpc import service_pb2 as pb


def caller(server: Server, ends: list, stop: threading.Event) -> threading.Thread:
    """Calls one after the other until the server has stopped; notes each end."""

    def run() -> None:
        with channel(server, **{"grpc.use_local_subchannel_pool": 1}) as link:
            while not stop.is_set():
                try:
                    right = np.array_equal(array(stub(link).ModelInfer(request(), timeout=20)), X * 2)
                    ends.append("right" if right else "wrong")
                except grpc.RpcError as error:
                    ends.append(f"{error.code().name}: {error.details()}")
                    if stop.is_set() or error.code() is grpc.StatusCode.UNAVAILABLE:
                        return

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def connection_refused(end: str) -> bool:
    """What a client gets that comes after the port is closed: it sent nothing, so nothing is lost."""
    return end.startswith("UNAVAILABLE") and ("refused" in end or "failed to connect" in end.lower())


@pytest.mark.parametrize("workers", [1, 2])
def test_stop_under_load_loses_no_call(start: Callable[..., Server], models: Path, workers: int) -> None:
    settings = {"server": {"workers": workers, "drain_seconds": 0.4}, "models": two_models(models)}
    server = start(settings).until_ready()
    ends: list[str] = []
    stop = threading.Event()
    threads = [caller(server, ends, stop) for _ in range(8)]
    time.sleep(0.7)
    assert server.stop() == 0
    stop.set()
    for thread in threads:
        thread.join(timeout=30)
    assert ends.count("right") > 100
    lost = [end for end in ends if end != "right" and not connection_refused(end)]
    assert lost == []


@pytest.mark.parametrize("workers", [1, 2])
def test_stop_finishes_what_is_in_flight(start: Callable[..., Server], models: Path, workers: int) -> None:
    server = start({"server": {"workers": workers}, "models": two_models(models)}).until_ready()
    links = [channel(server, **{"grpc.use_local_subchannel_pool": 1}) for _ in range(4)]
    held = [stub(link).ModelInfer.future(slow(1200)) for link in links]
    with Http2(server) as idle:
        time.sleep(0.2)
        assert server.stop() == 0
        del idle
    assert [call.result().outputs[0].name for call in held] == ["y"] * 4
    for link in links:
        link.close()


def test_while_draining_it_is_not_ready_but_still_answers(start: Callable[..., Server], models: Path) -> None:
    server = start({"server": {"drain_seconds": 1.0}, "models": two_models(models)}).until_ready()
    with channel(server) as link:
        calls = stub(link)
        assert calls.ServerReady(pb.ServerReadyRequest()).ready
        server.process.send_signal(signal.SIGTERM)
        server.log("stopping")
        assert not calls.ServerReady(pb.ServerReadyRequest()).ready
        assert calls.ServerLive(pb.ServerLiveRequest()).live
        with channel(server, **{"grpc.use_local_subchannel_pool": 1}) as newcomer:
            np.testing.assert_array_equal(array(stub(newcomer).ModelInfer(request())), X * 2)
        assert server.process.wait(timeout=20) == 0


def test_a_silent_client_does_not_hold_up_the_stop(start: Callable[..., Server], models: Path) -> None:
    """One that never answers the ping of the drain, and one that never even spoke HTTP/2."""
    server = start({"models": two_models(models)}).until_ready()
    with Http2(server), Http2(server, greet=False):
        time.sleep(0.2)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5


def test_a_killed_worker_loses_only_its_own_calls(start: Callable[..., Server], models: Path) -> None:
    server = start({"server": {"workers": 2}, "models": two_models(models)}).until_ready()
    links = [channel(server, **{"grpc.use_local_subchannel_pool": 1}) for _ in range(12)]
    held = [stub(link).ModelInfer.future(slow(1500)) for link in links]
    time.sleep(0.3)
    victim = worker_pids(server)[0]
    os.kill(victim, signal.SIGKILL)
    ends = [code_of(call.result)[0] for call in held]
    assert set(ends) == {"OK", "UNAVAILABLE"}
    with channel(server, **{"grpc.use_local_subchannel_pool": 1}) as link:
        wait_until(lambda: stub(link).ServerReady(pb.ServerReadyRequest()).ready)
    for link in links:
        np.testing.assert_array_equal(array(stub(link).ModelInfer(request(), wait_for_ready=True)), X * 2)
        link.close()


def test_workers_share_the_port(start: Callable[..., Server], models: Path) -> None:
    server = start({"server": {"workers": 2}, "models": two_models(models)}).until_ready()
    links = [channel(server, **{"grpc.use_local_subchannel_pool": 1}) for _ in range(24)]
    for link in links:
        stub(link).ModelInfer(request())
    ports = {int(entry["grpc_port"]) for entry in server.logs if entry["message"] == "listening"}
    assert len(ports) == 1
    assert server.metric("model_server_grpc_connections") == 24
    for pid in worker_pids(server):
        sockets = 0
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                sockets += str(fd.readlink()).startswith("socket:")
        assert sockets > 5
    for link in links:
        link.close()
