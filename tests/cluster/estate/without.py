"""A way to the API server on which a group is missing, as in a cluster where nobody installed it."""

import http.client
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml


@contextmanager
def without(group: str, kubeconfig: Path, folder: Path) -> Iterator[Path]:
    """A kubeconfig of the same cluster without one API group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = ["kubectl", f"--kubeconfig={kubeconfig}", "proxy", f"--port={port}"]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert proxy.stdout is not None
    proxy.stdout.readline()  # Starting to serve on 127.0.0.1:40001

    class Handler(BaseHTTPRequestHandler):
        def relay(self) -> None:
            if self.path.startswith(f"/apis/{group}"):
                self.send_error(404)
                return
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kept = {name: text for name, text in self.headers.items() if name.lower() != "host"}
            link.request(self.command, self.path, body or None, kept)
            answer = link.getresponse()
            self.send_response(answer.status)
            for name, text in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, text)
            self.end_headers()  # the end of the connection is the end of the answer: watches go on for long
            while part := answer.read1(65536):
                self.wfile.write(part)
                self.wfile.flush()
            link.close()

        def log_message(self, *_: Any) -> None:
            pass

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.relay)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    file = folder / "kubeconfig"
    config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "c", "user": {}}]}
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "c", **config}))
    try:
        yield file
    finally:
        server.shutdown()
        server.server_close()
        proxy.terminate()
        proxy.wait(10)
