"""Requests to processes of this machine, which no proxy may get."""

import urllib.request
from http.client import HTTPResponse
from typing import cast

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, timeout: float) -> HTTPResponse:
    """The answer to a GET of `url`.

    Raises:
        OSError: there is none, or it is an error.
        http.client.HTTPException: it is no HTTP.
    """
    return cast(HTTPResponse, _opener.open(url, timeout=timeout))
