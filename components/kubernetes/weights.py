"""The weights that a rollout owns: kept in the state by variant, since a route's list has no names."""

from collections.abc import Iterable

import pulumi
from pulumi import Output, Resource, ResourceOptions

from ..spec import Endpoint


class Weights(pulumi.CustomResource):
    """Weights that stay as they are, whatever `traffic` says, until a rollout moves them."""

    traffic: Output[dict[str, int]]

    def __init__(self, name: str, endpoint: Endpoint, parent: Resource) -> None:
        """`endpoint`: `name`'s block; its `traffic` is where the weights begin."""
        inputs = {"name": name, "variants": [*endpoint.variants], "traffic": endpoint.shares}
        kept = ["traffic"] if endpoint.weights_are_kept else []
        opts = ResourceOptions(parent=parent, ignore_changes=kept)
        super().__init__("serving-estate:kubernetes:Weights", name, inputs, opts)

    def of(self, variants: Iterable[str]) -> dict[str, Output[int]]:
        """The weight of each variant."""
        return {name: self._share(name) for name in variants}

    def _share(self, variant: str) -> Output[int]:
        return self.traffic.apply(lambda weights: int(weights.get(variant, 0)))
