"""`gs://bucket/prefix`, by Google's REST interface; google-auth (extra `gcs`) brings the credentials.

STORAGE_EMULATOR_HOST names an emulator, which gets no credentials.
"""

import os
import urllib.parse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from model_server.errors import LoadFailed
from model_server.models.source import Store, Unavailable
from model_server.models.stores.objects import StoredObject, bucket_and_key, files_of, place, revision_of
from model_server.models.transport import download, open_url, repeat

_WHO = "Google Cloud Storage"
_HOST = "https://storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"


class GcsStore(Store):
    """Google Cloud Storage."""

    def revision(self, location: str) -> str:
        """See Store.revision."""
        bucket, key = bucket_and_key(location)
        return revision_of(self._files(location, bucket, key, _headers(location)))

    def download(self, location: str, into: Path) -> str:
        """See Store.download."""
        bucket, key = bucket_and_key(location)
        headers = _headers(location)
        for path, item in self._files(location, bucket, key, headers).items():
            to = place(into, path)
            # The generation that was listed, or none: never half of an old model and half of a new one.
            url = f"{_object_url(bucket, item.key)}?alt=media&generation={item.etag}"
            repeat(
                partial(download, url, to, _WHO, self.registry.timeout_seconds, headers),
                self.registry.retry_seconds,
            )
            if to.stat().st_size != item.size:
                raise LoadFailed(f"{location}: {path}: got {to.stat().st_size} bytes, expected {item.size}")
        return ""

    def _files(
        self, location: str, bucket: str, key: str, headers: dict[str, str]
    ) -> dict[str, StoredObject]:
        return files_of(location, key, self._list(bucket, key, headers))

    def _list(self, bucket: str, key: str, headers: dict[str, str]) -> Iterator[StoredObject]:
        page = ""
        while True:
            query = {"prefix": key, "fields": "items(name,size,generation),nextPageToken", "pageToken": page}
            url = f"{_host()}/storage/v1/b/{_quoted(bucket)}/o?{urllib.parse.urlencode(query)}"
            document = repeat(partial(self._get_json, url, headers), self.registry.retry_seconds)
            for item in document.get("items", []):
                yield StoredObject(item["name"], str(item["generation"]), int(item["size"]))
            page = document.get("nextPageToken", "")
            if not page:
                return

    def _get_json(self, url: str, headers: dict[str, str]) -> dict[str, Any]:
        with open_url(url, _WHO, self.registry.timeout_seconds, headers) as response:
            document: dict[str, Any] = orjson.loads(response.read())
            return document


def _host() -> str:
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if not emulator:
        return _HOST
    return emulator.rstrip("/") if "://" in emulator else f"http://{emulator}"


def _headers(location: str) -> dict[str, str]:
    """A fresh access token of the environment's credentials."""
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return {}
    try:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
        from google.auth.transport.requests import Request
    except ImportError as error:
        raise LoadFailed(f"{location}: GCS needs the extra: pip install 'model-server[gcs]'") from error
    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        credentials.refresh(Request())  # type: ignore[no-untyped-call]
    except DefaultCredentialsError as error:
        raise LoadFailed(f"{location}: no Google credentials in the environment: {error}") from error
    except GoogleAuthError as error:
        raise Unavailable(f"{location}: Google's credentials cannot be refreshed: {error}") from error
    return {"Authorization": f"Bearer {credentials.token}"}


def _object_url(bucket: str, name: str) -> str:
    return f"{_host()}/storage/v1/b/{_quoted(bucket)}/o/{_quoted(name)}"


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
