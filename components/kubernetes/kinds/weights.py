"""The weights of an endpoint that a rollout owns, where the platform's own objects cannot keep them.

A route of the Gateway API has them in a list, by position: a program that leaves an item of a list alone
would leave alone that of another variant as soon as one is added or taken away. So they are a resource of
their own, by variant, and the routes are made from it. It is nowhere but in the state.
"""

from typing import Any, ClassVar

from ...provider.kind import Kind, Properties
from ...provider.weights import weights


class Weights(Kind):
    """The weights in use, of the variants that there are."""

    replaces: ClassVar[frozenset[str]] = frozenset({"name"})

    def preview(self, new: Properties, old: Properties | None) -> dict[str, Any]:  # noqa: ARG002
        """What they will be: nothing else has to be asked."""
        return {"traffic": weights(new, new["variants"])}

    def apply(self, new: Properties, seconds: float) -> dict[str, Any]:  # noqa: ARG002
        """The same."""
        return {"traffic": weights(new, new["variants"])}

    def read(self, state: Properties) -> dict[str, Any]:
        """They are nowhere else."""
        return dict(state)

    def delete(self, state: Properties) -> None:
        """There is nothing to take away."""
