"""What the variants of an endpoint did, from the metrics of its pods.

The gateway knows what clients got: also that a server could not be reached. The servers know what a gateway
cannot see: that an answer over gRPC, whose HTTP status is 200, was a failure. So requests and times are the
gateway's, and of failures, at each look, those of the one who counted more: both count most of them.
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
from .scrape import ANSWERED, ANSWERED_COUNT, FAILED, Pods, Scrape

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

    def __init__(self, scrape: Scrape, variant_of: Callable[[str], Callable[[str], str | None]]) -> None:
        """Begin to count.

        Args:
            scrape: reads the pods.
            variant_of: for an endpoint, what tells the variant that a cluster of the gateway leads to.
        """
        self._scrape, self._variant_of = scrape, variant_of
        self._servers, self._gateway = Tally(), Tally()
        self._before: tuple[Snapshot, Snapshot] | None = None
        self._failures: dict[str, int] = {}

    def read(self, endpoint: str, variants: Sequence[str]) -> Snapshot:
        """The counters now.

        Raises:
            SourceDownError: they cannot be read.
        """
        pods = {
            f"{variant}/{pod}": of_servers(found, variant)
            for variant in variants
            for pod, found in self._scrape.servers(endpoint, variant).items()
        }
        servers = self._servers.total(pods, variants)
        proxies: Pods = self._scrape.gateway(endpoint)
        if not proxies:
            if not pods:
                raise SourceDownError(f"no server of endpoint {endpoint} has metrics: is a pod of it ready?")
            return servers
        way = self._variant_of(endpoint)
        gateway = self._gateway.total(
            {pod: of_envoy(found, variants, way) for pod, found in proxies.items()}, variants
        )
        return self._with_failures(gateway, servers)

    def _with_failures(self, gateway: Snapshot, servers: Snapshot) -> Snapshot:
        """The gateway's counters, with the failures of who counted more since the last look."""
        for name, seen in gateway.variants.items():
            ours = servers.variants[name].failures
            if self._before is None:
                self._failures[name] = max(seen.failures, ours)
                continue
            before, ours_before = (one.variants[name].failures for one in self._before)
            self._failures[name] += max(seen.failures - before, ours - ours_before, 0)
        self._before = gateway, servers
        return Snapshot(
            gateway.edges,
            {name: replace(seen, failures=self._failures[name]) for name, seen in gateway.variants.items()},
        )


class Tally:
    """Adds up counters of pods that come, go, and begin anew, so that the sum never falls."""

    def __init__(self) -> None:
        """Nothing has been counted."""
        self._last: dict[tuple[str, str], Snapshot] = {}
        """By pod and variant; a pod that is not ready for a while goes on where it was."""
        self._before: list[Snapshot] = []
        """What those had counted that began anew since."""

    def total(self, pods: Mapping[str, Snapshot], variants: Sequence[str]) -> Snapshot:
        """The sum of those that are there and those that were."""
        for pod, found in pods.items():
            for name, reading in found.variants.items():
                last = self._last.get((pod, name))
                if last and reading.requests < last.variants[name].requests:
                    self._before = [merged([*self._before, last], variants)]
                self._last[pod, name] = Snapshot(found.edges, {name: reading})
        return merged([*self._before, *self._last.values()], variants)


def of_servers(found: Sequence[Series], variant: str) -> Snapshot:
    """The counters of a pod of the project's model server. Edges are in milliseconds, as everywhere."""
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
    edges = sorted({*below, math.inf})
    # The server takes the time of those only that it could answer.
    reading = Reading(round(answered + refused), round(failed), buckets(below, edges))
    return Snapshot(edges, {variant: reading})


def merged(snapshots: Sequence[Snapshot], variants: Sequence[str]) -> Snapshot:
    """The sum, also of snapshots that do not have the same buckets."""
    edges = sorted({edge for one in snapshots for edge in one.edges} | {math.inf})
    place = {edge: index for index, edge in enumerate(edges)}
    total = {}
    for name in variants:
        counts, requests, failures = [0] * len(edges), 0, 0
        for one in snapshots:
            reading = one.variants.get(name)
            if reading is None:
                continue
            requests, failures = requests + reading.requests, failures + reading.failures
            for edge, count in zip(one.edges, reading.latency, strict=True):
                counts[place[edge]] += count
        total[name] = Reading(requests, failures, counts)
    return Snapshot(edges, total)
