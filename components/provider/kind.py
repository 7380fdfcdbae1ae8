"""What a resource of the package's own has to be able to do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from threading import Event
from typing import Any, ClassVar

Properties = Mapping[str, Any]


class Unknown:
    """Stands in a preview for an output that only the real run can tell."""


UNKNOWN = Unknown()


class Gone(Exception):  # noqa: N818  named for what happened
    """The resource is not there any more."""


class Cancelled(Exception):  # noqa: N818
    """The engine asked the provider to stop while something was awaited."""


class Kind(ABC):
    """One type of resource.

    There is no create apart from update: `apply` brings about what the inputs say, whatever was there
    before. That is what makes a run that was killed half-way repeatable.
    """

    replaces: ClassVar[frozenset[str]] = frozenset({"host", "name"})
    """A change of these inputs makes a new resource."""

    def __init__(self, cancelled: Event) -> None:
        """`cancelled` is set when the engine asks to stop."""
        self.cancelled = cancelled

    def preview(self, new: Properties, old: Properties | None) -> dict[str, Any]:  # noqa: ARG002
        """The outputs that `apply` will give, as far as they can be told.

        Args:
            new: the inputs; a value that is not known yet is `UNKNOWN`.
            old: the present inputs and outputs, or None where there are none.
        """
        return {}

    @abstractmethod
    def apply(self, new: Properties, seconds: float) -> dict[str, Any]:
        """Make it so, wait until it truly is, and return the outputs.

        Args:
            new: the inputs.
            seconds: the longest wait; 0 for the kind's own bound.

        Raises:
            RuntimeError: it cannot be made so; the message says why.
            Cancelled: the engine asked to stop.
        """

    @abstractmethod
    def read(self, state: Properties) -> dict[str, Any]:
        """The inputs and outputs as they are found to be now.

        Raises:
            Gone: the resource is not there.
        """

    @abstractmethod
    def delete(self, state: Properties) -> None:
        """Remove every trace; it may be called again after a kill."""
