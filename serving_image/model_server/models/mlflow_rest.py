"""MLflow's REST interface with nothing but the standard library."""

import base64
import http.client
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import orjson

from model_server.errors import LoadFailed
from model_server.settings import RegistrySettings


class MlflowClient:
    """Calls to one tracking server. Every method blocks and raises LoadFailed."""

    def __init__(self, registry: RegistrySettings) -> None:
        uri = registry.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri.startswith(("http://", "https://")):
            found = f"got {uri!r}" if uri else "none is set"
            raise LoadFailed(
                "the registry needs an http(s) address in registry.tracking_uri or MLFLOW_TRACKING_URI; "
                + found
            )
        self._uri = uri.rstrip("/")
        self._timeout = registry.timeout_seconds

    def call(self, method: str, **query: str) -> dict[str, Any]:
        """GET a method of the 2.0 REST interface, such as "registered-models/alias"."""
        path = f"/api/2.0/mlflow/{method}?{urllib.parse.urlencode(query)}"
        with self._open(self._uri + path) as response:
            return _json_object(response.read(), method)

    def list_files(self, folder: str) -> list[tuple[str, bool]]:
        """Names in an artifact folder of the proxy, and whether each is a folder."""
        query = urllib.parse.urlencode({"path": folder})
        with self._open(f"{self._uri}/api/2.0/mlflow-artifacts/artifacts?{query}") as response:
            document = _json_object(response.read(), "artifact list")
        return [(str(file["path"]), bool(file.get("is_dir"))) for file in document.get("files", [])]

    def download(self, path: str, to: Path) -> None:
        """Stream one file of the artifact proxy to disk."""
        quoted = urllib.parse.quote(path)
        url = f"{self._uri}/api/2.0/mlflow-artifacts/artifacts/{quoted}"
        with self._open(url) as response, to.open("wb") as file:
            try:
                shutil.copyfileobj(response, file, 1 << 20)
            except (OSError, http.client.HTTPException) as error:
                raise LoadFailed(f"{url}: broke off: {error}") from error
            expected = response.headers.get("Content-Length")
            if expected is not None and file.tell() != int(expected):
                raise LoadFailed(f"{url}: got {file.tell()} bytes, expected {expected}")

    def _open(self, url: str) -> Any:
        request = urllib.request.Request(url, headers=_authorization())  # noqa: S310 - http(s) only, see __init__
        try:
            return urllib.request.urlopen(request, timeout=self._timeout)  # noqa: S310
        except urllib.error.HTTPError as error:
            detail = error.read(10_000).decode("utf-8", "replace")
            try:
                detail = orjson.loads(detail)["message"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                detail = detail[:200]
            raise LoadFailed(f"{url}: {error.code}: {detail}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise LoadFailed(f"{url}: the MLflow server cannot be reached: {reason}") from error


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
