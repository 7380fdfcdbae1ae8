"""Brakes: how each platform takes requests from a variant at once, before the stack follows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from .errors import RolloutError


class Brake(Protocol):
    """What a driver needs so that a rollback waits for no run of the engine."""

    def pull(self, weights: Mapping[str, int], instead_of: Sequence[Mapping[str, int]]) -> None:
        """Have the gateway divide requests by `weights` now, whatever the stack still says.

        Args:
            weights: each variant's share in per cent.
            instead_of: the weights that a run of the engine under way, or another one before the stack has
                followed, may ask for without meaning it.

        Raises:
            RolloutError: it cannot be done; the stack's own way is then the only one.
        """
        ...

    def release(self) -> None:
        """The stack has followed, or something else is wanted now: what it asks for is meant again."""
        ...


class LocalBrake:
    """The file of the local gateway that holds the weights: Envoy follows it within milliseconds."""

    def __init__(self, config: Path, endpoint: str) -> None:
        """`config`: the folder of the gateway's files."""
        self._config, self._endpoint = config, endpoint

    def pull(self, weights: Mapping[str, int], instead_of: Sequence[Mapping[str, int]]) -> None:
        """Have the gateway divide requests by `weights` now.

        Raises:
            RolloutError: its files cannot be written.
        """
        from components.local.machine import brake

        try:
            brake.pull(self._config, self._endpoint, weights, instead_of)
        except (OSError, ValueError) as error:
            raise RolloutError(f"the brake of endpoint {self._endpoint}: {error}") from None

    def release(self) -> None:
        """What the stack asks for is meant again."""
        from components.local.machine import brake

        brake.release(self._config, self._endpoint)


def find(resources: Sequence[Mapping[str, Any]], endpoint: str) -> Brake | None:
    """The brake for an endpoint's route, as the resources of its stack tell; None where there is none."""
    for resource in resources:
        if resource["type"] == "serving-estate:local:Route":
            inputs = resource.get("inputs") or {}
            if inputs.get("name") == endpoint and inputs.get("gateway"):
                return LocalBrake(Path(inputs["gateway"]), endpoint)
    return None
