"""What the variants of an endpoint did, from the metrics of its pods.

An Envoy in front of them counts all that clients got: also that a server could not be reached, that an answer
over gRPC, whose HTTP status is 200, was a failure, and that a fallback answered. What other gateways count is
not known, so the servers are asked. One or the other, never both: a failure that each counts at its own time
is one failure.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..errors import SourceDownError
from ..readings import Reading, Snapshot
from ..sources.counters import buckets
from ..sources.counters import snapshot as of_envoy
from ..sources.exposition import Series
from .scrape import ANSWERED, ANSWERED_COUNT, DEGRADED, FAILED, Pods, Scrape

FAULTS = frozenset(
    (
        "internal",
        "model_failed",
        "not_ready",
        "breaker_open",
        "deadline_exceeded",
        "load_failed",
        "queue_full",
    )
)
"""Kinds of errors that are no fault of the client's."""


class ClusterSource:
    """Counters of a cluster's endpoint."""

    def __init__(
        self,
        scrape: Scrape,
        variant_of: Callable[[str], Callable[[str], str | None]],
        begin: Snapshot | None = None,
    ) -> None:
        """Begin to count.

        Args:
            scrape: reads the pods.
            variant_of: for an endpoint, what tells the variant that a cluster of the gateway leads to now.
            begin: what had been counted by the driver before; what came since then is counted by nobody.
        """
        self._scrape, self._variant_of = scrape, variant_of
        self._tally = Tally(begin or Snapshot([math.inf], {}))
        self._by_gateway: bool | None = None

    def read(self, endpoint: str, variants: Sequence[str]) -> Snapshot:
        """The counters now.

        Raises:
            SourceDownError: they cannot be read.
        """
        proxies = {} if self._by_gateway is False else self._scrape.gateway(endpoint)
        seen = (
            self._seen_by(proxies, endpoint, variants)
            if proxies or self._by_gateway
            else self._seen_by_servers(endpoint, variants)
        )
        # Whoever counted at first goes on with it: another's counters are others.
        self._by_gateway = bool(proxies)
        return self._tally.total(seen, variants)

    def _seen_by(self, proxies: Pods, endpoint: str, variants: Sequence[str]) -> "Seen":
        if not proxies:
            raise SourceDownError(f"the gateway of endpoint {endpoint} has no metrics any more")
        way = self._variant_of(endpoint)
        return {
            (pod, cluster): (variant, counted)
            for pod, found in proxies.items()
            for cluster, counted in of_proxy(found).items()
            if (variant := way(cluster)) in variants and variant is not None
        }

    def _seen_by_servers(self, endpoint: str, variants: Sequence[str]) -> "Seen":
        pods = {
            (variant, pod): (variant, of_server(found))
            for variant in variants
            for pod, found in self._scrape.servers(endpoint, variant).items()
        }
        if not pods:
            raise SourceDownError(f"no server of endpoint {endpoint} has metrics: is a pod of it ready?")
        return pods


Counted = tuple[Sequence[float], Reading]
"""Edges of latency buckets in milliseconds, and what was counted."""

Seen = Mapping[tuple[str, str], tuple[str, Counted]]
"""By counter: the variant that it belongs to now, and what it says."""


class Tally:
    """Adds up what was counted since it was made, by counters that come, go, begin anew and change hands."""

    def __init__(self, begin: Snapshot) -> None:
        """`begin`: what to add to."""
        self._sums: dict[str, Counted] = {
            name: (begin.edges, reading) for name, reading in begin.variants.items()
        }
        self._last: dict[tuple[str, str], tuple[str, Counted]] = {}
        """By counter: the variant that it belonged to, and what it said. One that is not to be read for a
        while goes on where it was."""
        self._has_begun = False

    def total(self, seen: Seen, variants: Sequence[str]) -> Snapshot:
        """The sums by variant, with what the counters say now; they never fall."""
        for key, (variant, (edges, now)) in seen.items():
            owner, (edges_before, before) = self._last.get(key, (variant, (edges, Reading())))
            is_new = key not in self._last
            self._last[key] = variant, (edges, now)
            # At first nobody knows since when it counts. And what came while a place of the gateway went from
            # one variant to another was partly this one's and partly that one's.
            if (is_new and not self._has_begun) or owner != variant:
                self._sums.setdefault(variant, (edges, Reading()))
                continue
            more = now.since(before) if list(edges) == list(edges_before) else now.since(_on(edges, before))
            self._sums[variant] = _plus(self._sums.get(variant, (edges, Reading())), (edges, more))
        self._has_begun = True
        edges = sorted({edge for one, _ in self._sums.values() for edge in one} | {math.inf})
        zero: Counted = (edges, Reading())
        return Snapshot(edges, {name: _plus(zero, self._sums.get(name, zero))[1] for name in variants})


def _on(edges: Sequence[float], before: Reading) -> Reading:
    """A reading whose buckets were others: those of before are not subtracted."""
    return replace(before, latency=[0] * len(edges))


def _plus(one: Counted, other: Counted) -> Counted:
    """The sum, also of what does not have the same buckets."""
    edges = sorted({*one[0], *other[0]})
    place = {edge: index for index, edge in enumerate(edges)}
    counts = [0] * len(edges)
    for known, reading in (one, other):
        # One without any buckets has counted no times.
        for edge, count in zip(known, reading.latency or [0] * len(known), strict=True):
            counts[place[edge]] += count
    requests, failures = (
        sum(getattr(reading, name) for _, reading in (one, other)) for name in ("requests", "failures")
    )
    return edges, Reading(requests, failures, counts)


def of_proxy(found: Sequence[Series]) -> dict[str, Counted]:
    """The counters of each cluster of an Envoy."""
    names = sorted({labels.get("envoy_cluster_name", "") for _, labels, _ in found})
    counted = of_envoy(found, names, lambda cluster: cluster)
    return {name: (counted.edges, reading) for name, reading in counted.variants.items()}


def of_server(found: Sequence[Series]) -> Counted:
    """The counters of a pod of the project's model server."""
    below: dict[float, float] = defaultdict(float)
    answered = failed = refused = 0.0
    for name, labels, value in found:
        if name == ANSWERED:
            below[float(labels["le"]) * 1000] += value
        elif name == ANSWERED_COUNT:
            answered += value
        elif name == FAILED:
            refused += value
            failed += value if labels.get("kind") in FAULTS else 0
        elif name == DEGRADED:  # a fallback answered, not the model
            failed += value
    edges = sorted({*below, math.inf})
    # The server takes the time of those only that it could answer.
    return edges, Reading(round(answered + refused), round(failed), buckets(below, edges))
