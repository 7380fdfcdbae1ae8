"""Envoy's counters, wherever they were read, as readings of variants."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..readings import Reading, Snapshot
from .exposition import Series

COMPLETED = "envoy_cluster_upstream_rq_completed"
BY_CLASS = "envoy_cluster_upstream_rq_xx"
BUCKET = "envoy_cluster_upstream_rq_time_bucket"


def snapshot(
    found: Iterable[Series], variants: Sequence[str], variant_of: Callable[[str], str | None]
) -> Snapshot:
    """The readings in `found`.

    Args:
        found: the series named above, in any order.
        variants: those to tell of; one that has no series has no requests.
        variant_of: the variant that an Envoy cluster belongs to.
    """
    requests: dict[str, float] = defaultdict(float)
    failures: dict[str, float] = defaultdict(float)
    below: dict[str, dict[float, float]] = {name: defaultdict(float) for name in variants}
    for name, labels, value in found:
        variant = variant_of(labels.get("envoy_cluster_name", ""))
        if variant not in below:
            continue
        if name == COMPLETED:
            requests[variant] += value
        elif name == BY_CLASS and labels.get("envoy_response_code_class") == "5":
            failures[variant] += value
        elif name == BUCKET:
            below[variant][float(labels["le"])] += value
    edges = sorted({edge for counts in below.values() for edge in counts} | {math.inf})
    return Snapshot(
        edges,
        {
            name: Reading(round(requests[name]), round(failures[name]), buckets(below[name], edges))
            for name in variants
        },
    )


def buckets(below: Mapping[float, float], edges: Sequence[float]) -> list[int]:
    """Answers in each bucket, from the answers up to each edge as Prometheus counts them."""
    counts, last = [], 0.0
    for edge in edges:
        up_to = below.get(edge, last)
        counts.append(round(max(up_to - last, 0)))
        last = max(up_to, last)
    return counts
