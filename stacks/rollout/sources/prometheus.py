"""Envoy's statistics as a Prometheus keeps them: for gateways of many replicas."""

import json
import re
from collections.abc import Sequence
from urllib.parse import urlencode

from ..errors import SourceDownError
from ..readings import Snapshot
from ..web import fetch
from .counters import COMPLETED, NAMES, snapshot
from .exposition import Series


class Prometheus:
    """Instant queries for the counters of the endpoint's clusters.

    A replica of the gateway that goes away takes its counts with it: the sum falls, which is taken for a new
    beginning. Up to the next reading its requests are then counted as if they were new, once.
    """

    def __init__(self, url: str, clusters: str = "{endpoint}/{variant}/(http|grpc)") -> None:
        """Remember where to ask.

        Args:
            url: of the server, e.g. http://prometheus:9090.
            clusters: a regular expression for the names of a variant's clusters in the gateway, in which
                {endpoint} and {variant} are filled in.
        """
        self._url, self._clusters = url.rstrip("/"), clusters

    def read(self, endpoint: str, variants: Sequence[str]) -> Snapshot:
        """The counters now.

        Raises:
            SourceDownError: Prometheus does not answer, or has no such series: a scrape may be missing.
        """
        patterns = {
            name: self._clusters.replace("{endpoint}", re.escape(endpoint)).replace("{variant}", name)
            for name in variants
        }
        selector = f'envoy_cluster_name=~"{"|".join(patterns.values())}"'.replace("\\", "\\\\")
        labels = "__name__, envoy_cluster_name, envoy_response_code_class, le"
        query = f'sum by ({labels}) ({{__name__=~"{NAMES}",{selector}}})'
        found = [Series(told["__name__"], told, value) for told, value in ask(self._url, query)]
        if not any(one.name == COMPLETED for one in found):
            raise SourceDownError(f"{self._url} has no series {COMPLETED}{{{selector}}}; is Envoy scraped?")

        def variant_of(cluster: str) -> str | None:
            return next((name for name, text in patterns.items() if re.fullmatch(text, cluster)), None)

        return snapshot(found, variants, variant_of)


def ask(url: str, query: str) -> list[tuple[dict[str, str], float]]:
    """The labels and numbers that a Prometheus answers a query with now; `url`: its base.

    Raises:
        SourceDownError: it cannot be reached, or does not know an answer.
    """
    try:
        status, body = fetch(f"{url}/api/v1/query?{urlencode({'query': query})}", timeout=10)
        answer = json.loads(body)
    except (OSError, ValueError) as error:
        raise SourceDownError(f"Prometheus at {url}: {error}") from error
    if status != 200 or answer.get("status") != "success":
        raise SourceDownError(f"Prometheus at {url}: {answer.get('error', status)}")
    return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]
