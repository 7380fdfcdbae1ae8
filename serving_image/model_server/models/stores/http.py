"""A model file, or an archive of a model's folder, at an http(s) address.

MODEL_SERVER_HTTP_TOKEN in the environment is sent as a bearer token, to the addresses in the settings and not
to where they redirect.
"""

import hashlib
import os
import shutil
import tarfile
import urllib.parse
import zipfile
from pathlib import Path

from model_server.errors import LoadFailed
from model_server.models.source import Store, Unavailable
from model_server.models.transport import download, open_url, repeat

_WHO = "the server of the model's address"
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")


class HttpStore(Store):
    """One GET a model; HEAD tells whether it changed."""

    def revision(self, location: str) -> str:
        """See Store.revision: ETag, or Last-Modified; empty if the server has neither, or no HEAD."""

        def head() -> str:
            timeout = self.registry.timeout_seconds
            with open_url(location, _WHO, timeout, _headers(), "HEAD") as response:
                return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""

        try:
            return repeat(head, self.registry.retry_seconds)
        except Unavailable:
            raise
        except LoadFailed:
            # Presigned addresses are signed for GET alone. If GET is refused too, the download says so.
            return ""

    def download(self, location: str, into: Path) -> str:
        """See Store.download."""
        name = urllib.parse.unquote(urllib.parse.urlsplit(location).path).rpartition("/")[2]
        if not name or name in (".", ".."):
            raise LoadFailed(f"{location}: the address must end in a file's name")
        to = into / name
        repeat(
            lambda: download(location, to, _WHO, self.registry.timeout_seconds, _headers()),
            self.registry.retry_seconds,
        )
        if not name.endswith((".zip", *_TAR_ENDINGS)):
            return ""
        with to.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        packed = into.parent / "archive"
        to.rename(packed)
        _unpack(location, packed, into, is_zip=name.endswith(".zip"))
        packed.unlink()
        return digest


def _headers() -> dict[str, str]:
    token = os.environ.get("MODEL_SERVER_HTTP_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _unpack(location: str, packed: Path, into: Path, is_zip: bool) -> None:
    try:
        if is_zip:
            with zipfile.ZipFile(packed) as archive:
                archive.extractall(into)  # noqa: S202 - zipfile keeps members inside
        else:
            with tarfile.open(packed) as archive:
                archive.extractall(into, filter="data")
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, tarfile.TarError, RuntimeError) as error:
        raise LoadFailed(f"{location}: the archive cannot be unpacked: {error}") from error
    # `tar czf model.tgz model/` is as common as an archive without the outer folder.
    entries = list(into.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        outer = into.parent / "outer"
        entries[0].rename(outer)
        for entry in list(outer.iterdir()):
            shutil.move(entry, into / entry.name)
        outer.rmdir()
