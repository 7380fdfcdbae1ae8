"""Envoy's counters, wherever they were read, as readings of variants."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..readings import Reading, Snapshot
from .exposition import Series

COMPLETED = "envoy_cluster_upstream_rq_completed"
BY_CLASS = "envoy_cluster_upstream_rq_xx"
BUCKET = "envoy_cluster_upstream_rq_time_bucket"
DEGRADED = "envoy_cluster_canary_upstream_rq_completed"
"""Answers that the model server marks as those of a fallback: for Envoy, of a canary."""

_CODES = "2|4|12|13|14|15"
"""The gRPC codes that are a server's fault, as 500 and above are: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
INTERNAL, UNAVAILABLE, DATA_LOSS. They travel in answers of status 200."""

_FAILED_GRPC = rf"envoy_cluster_grpc_(.+_)?({_CODES})"
"""A gateway that counts by method has its name in them."""

NAMES = "|".join((COMPLETED, BY_CLASS, BUCKET, DEGRADED, _FAILED_GRPC))
"""All of these series, as a regular expression that has nothing to escape."""

COUNTERS = rf"(upstream_rq_(completed|5xx|time)|canary\.upstream_rq_completed|grpc\.(.+\.)?({_CODES}))"
"""The same as Envoy itself calls them, below `cluster.<name>.`, to ask it for no others."""

_is_failed_grpc = re.compile(_FAILED_GRPC).fullmatch


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
    failed: dict[str, dict[str, float]] = {name: defaultdict(float) for name in variants}
    degraded: dict[str, float] = defaultdict(float)
    failed_grpc: dict[str, dict[str, float]] = {name: defaultdict(float) for name in variants}
    below: dict[str, dict[float, float]] = {name: defaultdict(float) for name in variants}
    for name, labels, value in found:
        cluster = labels.get("envoy_cluster_name", "")
        variant = variant_of(cluster)
        if variant not in below:
            continue
        if name == COMPLETED:
            requests[variant] += value
        elif name == BY_CLASS and labels.get("envoy_response_code_class") == "5":
            failed[variant][cluster] += value
        elif name == DEGRADED:
            degraded[variant] += value
        elif _is_failed_grpc(name):
            failed_grpc[variant][cluster] += value
        elif name == BUCKET:
            below[variant][float(labels["le"])] += value
    # What the gateway itself fails over gRPC is in both counts. A fallback is not the variant.
    failures = {
        name: degraded[name]
        + sum(
            max(failed[name][cluster], failed_grpc[name][cluster])
            for cluster in failed[name].keys() | failed_grpc[name].keys()
        )
        for name in variants
    }
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
