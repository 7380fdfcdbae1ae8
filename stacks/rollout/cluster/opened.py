"""What the commands work with where the stack is one of a cluster."""

import math
from dataclasses import replace
from pathlib import Path

from components.kubernetes.platform import namespace_name
from components.spec import KubernetesSettings
from components.spec.rollout import Strategy

from ..errors import RolloutError
from ..placement import PulumiStack
from ..readings import Snapshot
from ..sources import MetricsSource
from ..state import State
from .api import Api
from .journal import ClusterJournal
from .scrape import PodScrape, PrometheusScrape
from .source import ClusterSource
from .stack import ClusterStack, pods_of


def opened(project: Path, stack: str, endpoint: str, journals: Path) -> tuple[PulumiStack, ClusterJournal]:
    """The endpoint and its journal; for the arguments see `PulumiStack`.

    Raises:
        RolloutError: there is no such stack, or no cluster to ask.
    """
    there = ClusterStack(project, stack, endpoint, journals)
    settings = there.estate().kubernetes or KubernetesSettings()
    namespace = settings.namespace or namespace_name(there.project, stack, "estate")
    there.connect(Api(there.context), namespace)
    return there, ClusterJournal(there.api, namespace, endpoint)


def source_of(stack: PulumiStack, prometheus: str | None, state: State | None) -> MetricsSource:
    """Where the evidence comes from: a Prometheus, else the pods themselves.

    Args:
        stack: that of the endpoint.
        prometheus: its address, where there is one.
        state: the rollout as it is, whose counters are gone on with.
    """
    if not isinstance(stack, ClusterStack):
        raise RolloutError(f"stack {stack.stack} is none of a cluster")
    # Copies are nothing that a gateway counts for the variant that gets them: only its servers know of them.
    copies = state is not None and state.rollout.kind is Strategy.SHADOW
    if prometheus:
        stack.scrape = PrometheusScrape(prometheus, stack.namespace, by_gateway=not copies)
    else:
        found = pods_of(stack.api, stack.namespace, stack.estate())
        stack.scrape = PodScrape(stack.api, stack.namespace, None) if copies else found
    return ClusterSource(stack.scrape, stack.variant_of, counted_before(state) if state else None)


def counted_before(state: State) -> Snapshot | None:
    """What the journal says was counted; a driver that goes on begins with it."""
    if not state.raw:
        return None
    if not state.edges:  # its driver died before a step: in which buckets the times are is not written down
        return Snapshot([math.inf], {name: replace(one, latency=()) for name, one in state.raw.items()})
    return Snapshot(state.edges, state.raw)
