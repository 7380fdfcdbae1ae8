"""MLflow's REST interface: the few calls that a server of models needs."""

import base64
import os
import urllib.parse
from pathlib import Path
from typing import Any

import orjson

from model_server.errors import LoadFailed
from model_server.models.transport import download, open_url, repeat
from model_server.settings import RegistrySettings

_WHO = "the MLflow server"


class MlflowClient:
    """Calls to one tracking server, repeated while it does not answer. All block and raise LoadFailed."""

    def __init__(self, registry: RegistrySettings) -> None:
        uri = tracking_uri(registry)
        if not uri.startswith(("http://", "https://")):
            found = f"got {uri!r}" if uri else "none is set"
            raise LoadFailed(
                "the registry needs an http(s) address in registry.tracking_uri or MLFLOW_TRACKING_URI; "
                + found
            )
        self.uri = uri.rstrip("/")
        self._registry = registry

    def call(self, method: str, **query: str) -> dict[str, Any]:
        """GET a method of the 2.0 REST interface, such as "registered-models/alias"."""
        return self._get(f"/api/2.0/mlflow/{method}?{urllib.parse.urlencode(query)}", method)

    def list_files(self, folder: str) -> list[tuple[str, bool]]:
        """Names in an artifact folder of the proxy, and whether each is a folder."""
        query = urllib.parse.urlencode({"path": folder})
        document = self._get(f"/api/2.0/mlflow-artifacts/artifacts?{query}", "artifact list")
        return [(str(file["path"]), bool(file.get("is_dir"))) for file in document.get("files", [])]

    def download(self, path: str, to: Path) -> None:
        """Stream one file of the artifact proxy to disk."""
        url = f"{self.uri}/api/2.0/mlflow-artifacts/artifacts/{urllib.parse.quote(path)}"
        repeat(
            lambda: download(url, to, _WHO, self._registry.timeout_seconds, _authorization()),
            self._registry.retry_seconds,
        )

    def _get(self, path: str, what: str) -> dict[str, Any]:
        def get() -> bytes:
            timeout = self._registry.timeout_seconds
            with open_url(self.uri + path, _WHO, timeout, _authorization()) as response:
                body: bytes = response.read()
                return body

        return _json_object(repeat(get, self._registry.retry_seconds), what)


def tracking_uri(registry: RegistrySettings) -> str:
    """The registry's address; empty if there is none."""
    return registry.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")


def _authorization() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if user:
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _json_object(body: bytes, what: str) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise LoadFailed(f"MLflow {what}: the answer is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise LoadFailed(f"MLflow {what}: the answer is not an object")
    return document
