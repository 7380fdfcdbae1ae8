"""Where the numbers come from."""

from collections.abc import Sequence
from typing import Protocol

from ..readings import Snapshot


class MetricsSource(Protocol):
    """Reads counters that grow for ever, and may begin anew when what counts is started again."""

    def read(self, endpoint: str, variants: Sequence[str]) -> Snapshot:
        """The counters now.

        Raises:
            SourceDownError: they cannot be read.
        """
        ...
