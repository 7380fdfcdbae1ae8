"""The metrics of an endpoint's pods: asked of the pods themselves through the API server, or of a Prometheus.

Both give the same: the series of each pod of the model servers, and of each pod of the gateway that the
endpoint's routes go through.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import quote

from ..errors import SourceDownError
from ..sources import prometheus
from ..sources.counters import COMPLETED, COUNTERS, NAMES
from ..sources.exposition import Series, series
from .api import Api, UnreachableError, pod_path

SERVER_PORT, PROXY_PORT = 8080, 19001
_PROXIES = "envoy-gateway-system"
VARIANT, ENDPOINT = "serving-estate/variant", "serving-estate/endpoint"
ANSWERED, ANSWERED_COUNT = "model_server_request_seconds_bucket", "model_server_request_seconds_count"
FAILED, DEGRADED = "model_server_errors_total", "model_server_degraded_total"

Pods = Mapping[str, Sequence[Series]]
"""Series by what they are of: a pod, and which of its lives."""


class Scrape(Protocol):
    """Reads the series of pods."""

    def servers(self, endpoint: str, variant: str) -> Pods:
        """Those of a variant's servers.

        Raises:
            SourceDownError: they cannot be read.
        """
        ...

    def gateway(self, endpoint: str) -> Pods:
        """Those of the gateway's proxies that are about an endpoint; none where nobody knows them.

        Raises:
            SourceDownError: they cannot be read.
        """
        ...

    def seen_up_to(self, endpoint: str) -> float:
        """Up to when what is read tells everything, in seconds since 1970."""
        ...


class PodScrape:
    """Each pod is asked at each look: nothing has to be installed for it."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        gateway: tuple[str, str] | None,
        selector: Callable[[str, str], str] = lambda endpoint, name: (
            f"{ENDPOINT}={endpoint},{VARIANT}={name}"
        ),
    ) -> None:
        """Remember where to look.

        Args:
            api: the cluster's.
            namespace: that of the estate.
            gateway: namespace and name of the gateway, where its proxies are those of Envoy Gateway.
            selector: how the pods of an endpoint's variant are found.
        """
        self._api, self._namespace, self._gateway = api, namespace, gateway
        self._selector = selector
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="scrape")

    def servers(self, endpoint: str, variant: str) -> Pods:
        """The series of a variant's servers that are ready.

        Raises:
            SourceDownError: the API server, or a server that is ready, does not answer.
        """
        pods = self._pods(self._namespace, self._selector(endpoint, variant))
        return self._all(pods, SERVER_PORT, "metrics")

    def gateway(self, endpoint: str) -> Pods:
        """The series of the gateway's proxies.

        Raises:
            SourceDownError: the API server, or a proxy that is ready, does not answer.
        """
        if self._gateway is None:
            return {}
        namespace, name = self._gateway
        owner = "gateway.envoyproxy.io/owning-gateway"
        selector = f"{owner}-name={name},{owner}-namespace={namespace}"
        # Beside its controller, or in the gateway's own namespace: to look in all of them takes more rights.
        pods = self._pods(_PROXIES, selector) or self._pods(namespace, selector)
        # Envoy's filter is about the name before labels are taken out of it.
        clusters = rf"(http|grpc)route/{re.escape(self._namespace)}/{re.escape(endpoint)}/[^.]+"
        wanted = quote(rf"^cluster\.{clusters}\.{COUNTERS}$")
        return self._all(pods, PROXY_PORT, f"stats/prometheus?filter={wanted}")

    def seen_up_to(self, endpoint: str) -> float:  # noqa: ARG002
        """Now."""
        return time.time()

    def _pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        path = f"/api/v1/namespaces/{namespace}/pods"
        try:
            found = self._api.get(path, labelSelector=selector) or {"items": []}
        except UnreachableError as error:
            raise SourceDownError(f"the cluster: {error}") from None
        return [pod for pod in found["items"] if is_ready(pod)]

    def _all(self, pods: Sequence[dict[str, Any]], port: int, path: str) -> Pods:
        def ask(pod: Mapping[str, Any]) -> tuple[str, list[Series]]:
            meta = pod["metadata"]
            text = self._api.text(pod_path(meta["namespace"], meta["name"], port, path))
            restarts = sum(one.get("restartCount", 0) for one in pod["status"]["containerStatuses"])
            return f"{meta['name']}/{restarts}", list(series(text))

        try:
            return dict(self._threads.map(ask, pods))
        except UnreachableError as error:
            raise SourceDownError(f"a pod's metrics: {error}") from None


class PrometheusScrape:
    """A Prometheus that scrapes the servers, and perhaps the gateway's proxies, with the label `pod`."""

    def __init__(self, url: str, namespace: str, by_gateway: bool = True) -> None:
        """Remember where to ask.

        Args:
            url: of the server, e.g. http://prometheus.monitoring:9090.
            namespace: that of the estate.
            by_gateway: whether what the gateway's proxies count is of use.
        """
        self._url, self._namespace, self._by_gateway = url.rstrip("/"), namespace, by_gateway

    def servers(self, endpoint: str, variant: str) -> Pods:
        """The series of a variant's servers.

        Raises:
            SourceDownError: Prometheus does not answer.
        """
        names = "|".join((ANSWERED, ANSWERED_COUNT, FAILED, DEGRADED))
        return self._select(f'{{__name__=~"{names}",{self._of(endpoint, variant)}}}')

    def gateway(self, endpoint: str) -> Pods:
        """The series of the gateway's proxies; none where it does not scrape them.

        Raises:
            SourceDownError: Prometheus does not answer.
        """
        return self._select(f'{{__name__=~"{NAMES}",{self._ways(endpoint)}}}') if self._by_gateway else {}

    def seen_up_to(self, endpoint: str) -> float:
        """When the pod was scraped that was scraped the longest ago, of those that are counted by.

        Raises:
            SourceDownError: Prometheus does not answer, or scrapes no server of the endpoint.
        """
        known = [f"model_server_model_ready{{{self._of(endpoint, '[a-z0-9-]+')}}}"]
        if self._by_gateway:
            known.insert(0, f"{COMPLETED}{{{self._ways(endpoint)}}}")
        for series_of in known:
            if found := self._ask(f"min(max by (pod, instance) (timestamp({series_of})))"):
                return float(found[0][1])
        raise SourceDownError(f"{self._url} has no series of endpoint {endpoint}: are its pods scraped?")

    def _ways(self, endpoint: str) -> str:
        return f'envoy_cluster_name=~"(http|grpc)route/{self._namespace}/{endpoint}/.+"'

    def _of(self, endpoint: str, variant: str) -> str:
        pods = f"{endpoint}-{variant}-[a-z0-9]+-[a-z0-9]+"
        return f'namespace="{self._namespace}",model="{endpoint}",pod=~"{pods}"'

    def _select(self, query: str) -> Pods:
        pods: dict[str, list[Series]] = defaultdict(list)
        for labels, value in self._ask(query):
            pod = labels.get("pod") or labels.get("instance", "")
            pods[pod].append(Series(labels["__name__"], labels, value))
        return pods

    def _ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        return prometheus.ask(self._url, query)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod takes requests."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
