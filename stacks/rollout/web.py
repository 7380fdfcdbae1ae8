"""Requests over HTTP: to this machine without any proxy, elsewhere as the environment says."""

import json
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_usual = urllib.request.build_opener()


def fetch(
    url: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 10
) -> tuple[int, bytes]:
    """Status and body of an answer: to a GET, or to a POST of `body` as JSON.

    Raises:
        OSError: there was no answer.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise OSError(f"{url} is no http:// or https:// address")
    data = None if body is None else json.dumps(body).encode()
    known = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, known)  # noqa: S310  the scheme is checked above
    opener = _direct if urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1") else _usual
    try:
        with opener.open(request, timeout=timeout) as answer:
            return int(answer.status), bytes(answer.read())
    except HTTPError as error:
        return error.code, error.read()
    except (HTTPException, ValueError) as error:
        raise OSError(str(error)) from error
