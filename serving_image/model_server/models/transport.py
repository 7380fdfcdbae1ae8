"""HTTP for sources and stores with nothing but the standard library: repeats, redirects, whole downloads.

Credentials are sent to the host that was asked and to no other: a redirect goes on without them, and only to
http(s). A URL that carries a password is refused, because URLs end up in logs.
"""

import http.client
import random
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import orjson

from model_server.errors import LoadFailed
from model_server.models.source import Unavailable
from model_server.telemetry.logs import log

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_DETAIL_BYTES = 10_000
_CHUNK = 1 << 20

_T = TypeVar("_T")


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows http and https; urllib's own would follow ftp too."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(("http://", "https://")):
            raise urllib.error.HTTPError(newurl, code, "redirects to another scheme", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@cache
def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _HttpRedirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def repeat(work: Callable[[], _T], seconds: float) -> _T:
    """Do the work again, after growing pauses, while it raises Unavailable and the time is not over."""
    limit = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    tries = 0
    while True:
        tries += 1
        try:
            return work()
        except Unavailable as error:
            # Half of the pause is chance, so that a fleet that lost its registry does not return as one.
            wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
            if time.monotonic() + wait > limit:
                if tries == 1:
                    raise
                raise Unavailable(f"{error.message} (tried {tries} times in {seconds:g} s)") from error
            log.debug("trying again", extra={"reason": error.message, "pause": round(wait, 2)})
        time.sleep(wait)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def open_url(
    url: str, who: str, timeout: float, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> Any:
    """Open a response, to be used with `with`. `who` names the server in messages. Raises LoadFailed."""
    parts = urllib.parse.urlsplit(url)
    if "@" in parts.netloc:
        raise LoadFailed(
            f"{_without_secrets(url)}: a user or password in an address ends up in logs; "
            "give credentials in the environment"
        )
    request = urllib.request.Request(url, method=method)  # noqa: S310 - the opener knows http(s) only
    for name, value in (headers or {}).items():
        request.add_unredirected_header(name, value)
    shown = _without_secrets(url)
    try:
        return _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        kind = Unavailable if error.code in _TRANSIENT_STATUS else LoadFailed
        raise kind(f"{shown}: {error.code}: {_detail(error)}{_mend(error.code, who)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(f"{shown}: {who} cannot be reached: {reason}") from error


def download(url: str, to: Path, who: str, timeout: float, headers: Mapping[str, str] | None = None) -> None:
    """Bring one file to disk, whole. Raises LoadFailed."""
    shown = _without_secrets(url)
    with open_url(url, who, timeout, headers) as response, to.open("wb") as file:
        try:
            shutil.copyfileobj(response, file, _CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{shown}: broke off after {file.tell()} bytes: {error}") from error
        expected = response.headers.get("Content-Length")
        if expected is not None and file.tell() != int(expected):
            raise Unavailable(f"{shown}: broke off: got {file.tell()} bytes, expected {expected}")


def _detail(error: urllib.error.HTTPError) -> str:
    """What the server says is wrong."""
    try:
        text = error.read(_DETAIL_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError):
        text = ""
    try:
        return str(orjson.loads(text)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        # A page for people says no more than its status.
        return str(error.reason) if not text.strip() or text.lstrip().startswith("<") else text.strip()[:200]


def _mend(status: int, who: str) -> str:
    if status in (401, 403):
        return f" (are the credentials for {who} in this process's environment?)"
    return ""


def _without_secrets(url: str) -> str:
    """For messages: no user, no query (presigned addresses carry their signature there)."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
