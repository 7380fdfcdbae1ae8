"""What is counted of a variant: requests, failures, and how long the answers took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reading:
    """Counters of one variant: as read they grow for ever, as a difference they are those of a time."""

    requests: int = 0
    """Requests that were answered, by the server or for it."""
    failures: int = 0
    """Those answered with 500 or above."""
    latency: Sequence[int] = ()
    """Answers in each bucket of the snapshot's `edges`."""

    def since(self, before: "Reading") -> "Reading":
        """What was counted after `before`; a counter that is behind has begun anew since."""
        if self.requests < before.requests:
            return self
        # With other buckets than before, what was counted in them is not known.
        alike = len(self.latency) == len(before.latency)
        both = zip(self.latency, before.latency, strict=True) if alike else ()
        times = [max(now - then, 0) for now, then in both]
        return Reading(self.requests - before.requests, max(self.failures - before.failures, 0), times)

    def plus(self, more: "Reading") -> "Reading":
        """The two together."""
        if not self.latency or not more.latency:
            times: Sequence[int] = self.latency or more.latency
        else:
            times = [one + other for one, other in zip(self.latency, more.latency, strict=True)]
        return Reading(self.requests + more.requests, self.failures + more.failures, times)

    def record(self) -> dict[str, Any]:
        """For the journal."""
        return {"requests": self.requests, "failures": self.failures, "latency": list(self.latency)}

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Reading":
        """From the journal."""
        return Reading(record["requests"], record["failures"], record["latency"])


@dataclass(frozen=True)
class Snapshot:
    """The counters of all variants at one moment."""

    edges: Sequence[float]
    """The upper edge of each latency bucket, in milliseconds, ascending; the last is infinite."""
    variants: Mapping[str, Reading]
