"""What the client does with an API server that is slow, busy or away; played by a server of a few lines."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.cluster.provider.api import Api, may_be_custom
from tests.cluster.provider.errors import ApiError, Cancelled, NoSuchKind, Unreachable
from tests.cluster.provider.kubeconfig import Cluster

Answers = dict[str, list[tuple[int, Any]]]


def cluster(port: int) -> Cluster:
    return Cluster(f"http://127.0.0.1:{port}", "default", "context `test` of nowhere", None, dict)


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], tuple[Api, list[str]]]]:
    """Serve the answers in turn, the last one for ever; gives a client, and the paths that were asked for."""
    servers = []

    def start(answers: Answers) -> tuple[Api, list[str]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.append(self.path)
                queue = answers[self.path]
                code, body = queue.pop(0) if len(queue) > 1 else queue[0]
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return Api(cluster(server.server_port), threading.Event()), asked

    yield start
    for server in servers:
        server.shutdown()


THINGS = {
    "resources": [
        {"kind": "Thing", "name": "things", "namespaced": True},
        {"kind": "x", "name": "things/status"},
    ]
}


def test_a_busy_server_is_asked_again(serve: Callable[[Answers], tuple[Api, list[str]]]) -> None:
    api, asked = serve(
        {"/a": [(503, {"message": "starting"}), (429, {"message": "slow"}), (200, {"ok": True})]}
    )
    assert api.get("/a") == {"ok": True}
    assert len(asked) == 3


def test_a_refusal_is_told_and_not_repeated(serve: Callable[[Answers], tuple[Api, list[str]]]) -> None:
    api, asked = serve({"/a": [(422, {"message": "wrong", "reason": "Invalid"})]})
    with pytest.raises(ApiError, match="wrong"):
        api.get("/a")
    assert len(asked) == 1


def test_kinds_are_asked_for_once_and_again_when_one_is_missing(
    serve: Callable[[Answers], tuple[Api, list[str]]],
) -> None:
    api, asked = serve({"/apis/g/v1": [(200, {"resources": []}), (200, THINGS)]})
    with pytest.raises(NoSuchKind, match="CustomResourceDefinition"):
        api.resource("g/v1", "Thing")
    thing = api.resource_soon("g/v1", "Thing", 5)
    assert thing.path("space", "a") == "/apis/g/v1/namespaces/space/things/a"
    for _ in range(3):
        api.resource("g/v1", "Thing")
    assert len(asked) == 2


def test_nobody_there_is_told_soon_and_to_the_second_one_at_once() -> None:
    api = Api(cluster(9), threading.Event())
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"http://127.0.0.1:9 \(context `test` of nowhere\).*refused"):
        api.get("/a")
    first = time.monotonic() - started
    assert first < 15
    for _ in range(100):
        with pytest.raises(Unreachable):
            api.get("/b")
    assert time.monotonic() - started < first + 5


def test_waiting_ends_when_that_is_asked_for() -> None:
    cancelled = threading.Event()
    api = Api(cluster(9), cancelled)
    cancelled.set()
    with pytest.raises(Cancelled):
        api.get("/a")


def test_which_groups_may_hold_custom_kinds() -> None:
    assert may_be_custom("gateway.networking.k8s.io")
    assert may_be_custom("example.com")
    for group in ("", "apps", "networking.k8s.io", "rbac.authorization.k8s.io"):
        assert not may_be_custom(group)
