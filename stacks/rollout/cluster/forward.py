"""Pods under an address of this machine, through the API server: who asks them need not know of clusters."""

import secrets
import threading
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket

from .api import Api, UnreachableError

_SECONDS = 60.0


def _asked(reached: socket, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of an answer over a connection that is there already."""
    reached.settimeout(_SECONDS)
    connection = HTTPConnection("pod")
    connection.sock = reached
    connection.request(method, path, body or None, {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


class Forward:
    """Listens on loopback, to this process alone, from the first address on that it is asked for."""

    def __init__(self, api: Api) -> None:
        """`api`: the cluster's."""
        self._api = api
        self._server: ThreadingHTTPServer | None = None
        self._lock = threading.Lock()
        # Others on this machine must not reach the cluster with this process's rights.
        self._key = secrets.token_urlsafe(24)

    def address(self, namespace: str, pod: str, port: int) -> str:
        """The base URL of a pod's port."""
        with self._lock:
            if self._server is None:
                self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
                self._server.daemon_threads = True
                threading.Thread(target=self._server.serve_forever, daemon=True).start()
            listens = self._server.server_port
        return f"http://127.0.0.1:{listens}/{self._key}/{namespace}/{pod}/{port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api, key = self._api, self._key

        class Handler(BaseHTTPRequestHandler):
            """Passes a request on."""

            def do_GET(self) -> None:
                """Ask."""
                self._pass_on("GET")

            def do_POST(self) -> None:
                """Send."""
                self._pass_on("POST")

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

            def _pass_on(self, method: str) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                parts = self.path.lstrip("/").split("/", 4)
                status, answer = 404, b"{}"
                if len(parts) == 5 and parts[0] == key:
                    _, namespace, pod, port, rest = parts
                    try:
                        with api.port(namespace, pod, int(port)) as reached:
                            status, answer = _asked(reached, method, f"/{rest}", body)
                    except (UnreachableError, OSError, HTTPException) as error:
                        status, answer = 502, str(error).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        return Handler
