"""Envoy's own statistics, from its admin address: what the gateway saw, without anything in between."""

import re
from collections.abc import Sequence
from urllib.parse import quote

from ..errors import SourceDownError
from ..readings import Snapshot
from ..web import fetch
from .counters import COUNTERS, snapshot
from .exposition import series


class EnvoyStatistics:
    """The clusters of the local gateway are named `endpoint/variant/protocol`."""

    def __init__(self, admin: str) -> None:
        """`admin`: the stack output `gateway`."""
        self._admin = admin

    def read(self, endpoint: str, variants: Sequence[str]) -> Snapshot:
        """The counters now.

        Raises:
            SourceDownError: the gateway does not answer.
        """
        names = "|".join(re.escape(name) for name in variants)
        wanted = quote(rf"^cluster\.{re.escape(endpoint)}/({names})/(http|grpc)\.{COUNTERS}$")
        try:
            status, body = fetch(f"{self._admin}/stats/prometheus?filter={wanted}", timeout=5)
        except OSError as error:
            raise SourceDownError(f"the gateway's statistics at {self._admin}: {error}") from error
        if status != 200:
            raise SourceDownError(f"the gateway's statistics at {self._admin}: it answered {status}")

        def variant_of(cluster: str) -> str | None:
            parts = cluster.split("/")
            return parts[1] if len(parts) == 3 and parts[0] == endpoint else None

        return snapshot(series(body.decode()), variants, variant_of)
