"""The weights that a rollout owns: kept in the state by variant, since a route's list has no names."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import pulumi
from pulumi import Output, Resource, ResourceOptions

from ..spec import Endpoint
from ..spec.rollout import Rollout


class Weights(pulumi.CustomResource):
    """Weights that stay as they are, whatever `traffic` says, until a rollout moves them."""

    traffic: Output[dict[str, int]]

    def __init__(self, name: str, endpoint: Endpoint, parent: Resource) -> None:
        """`endpoint`: `name`'s block; its `traffic` is where the weights begin."""
        inputs = {"name": name, "variants": [*endpoint.variants], "traffic": endpoint.shares}
        kept = ["traffic"] if endpoint.weights_are_kept else []
        opts = ResourceOptions(parent=parent, ignore_changes=kept)
        super().__init__("serving-estate:kubernetes:Weights", name, inputs, opts)
        self._endpoint = endpoint

    def made(self, rules: Callable[[Endpoint], Iterable[Any]]) -> Output[Any]:
        """What `rules` makes of the endpoint with these weights."""

        def of(shares: Mapping[str, float]) -> Any:
            return cast(Any, Output.from_input([*rules(divided(self._endpoint, shares))]))

        return self.traffic.apply(of)


def divided(endpoint: Endpoint, shares: Mapping[str, float]) -> Endpoint:
    """The endpoint with its requests divided like this, in per cent by variant."""
    weights = {name: int(share) for name, share in shares.items()}
    rollout = (endpoint.rollout or Rollout()).model_copy(update={"weights": weights})
    return endpoint.model_copy(update={"rollout": rollout})
