"""The weights of an endpoint that a rollout owns, where the platform's own objects cannot keep them.

A route of the Gateway API has them in a list, by position: a program that leaves an item of a list alone
would leave alone that of another variant as soon as one is added or taken away. So they are a resource of
their own, by variant, and the routes are made from it. It is nowhere but in the state.
"""

from collections.abc import Collection
from typing import Any, ClassVar

from .base import Kind, Properties


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


def weights(properties: Properties, variants: Collection[str]) -> dict[str, int]:
    """The weights of the variants that there are; those of a rollout may not know all of them, or more.

    Raises:
        RuntimeError: a variant that gets requests is not there any more.
    """
    traffic = properties["traffic"]
    gone = [f"{name} ({share} %)" for name, share in traffic.items() if share and name not in variants]
    if gone:
        raise RuntimeError(
            f"endpoint {properties['name']}: {', '.join(gone)} still gets requests and cannot be removed; "
            "a rollout owns the weights: promote or abort it first (`estate rollout`)"
        )
    return {name: int(traffic.get(name, 0)) for name in variants}
