"""Where an endpoint stands: which variant serves what, to whom; and moving it, through the engine.

The stack is the truth. A move is a run of the engine on the endpoint's route alone, with the stack's own
configuration and the weights added to it (`rollout.weights`). Whatever else has changed in the stack file
since is left to the next `pulumi up`.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from components.spec import Endpoint, EstateSpec, SpecError, validate

from . import brakes
from .errors import RolloutError

if TYPE_CHECKING:
    from .engine import Engine


@dataclass(frozen=True)
class Variant:
    """A variant as it runs."""

    model: str
    weight: int
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """An endpoint as it runs."""

    variants: Mapping[str, Variant]
    gateway: str
    """The admin address of the gateway, or empty."""

    @property
    def weights(self) -> dict[str, int]:
        """The share of each variant in per cent."""
        return {name: variant.weight for name, variant in self.variants.items()}


class Stack(Protocol):
    """What a driver needs of the stack that an endpoint belongs to."""

    def present(self) -> Placement:
        """The endpoint as it runs.

        Raises:
            RolloutError: there is no such endpoint, or no such stack.
        """
        ...

    def move(self, weights: Mapping[str, int], why: str) -> None:
        """Set the weights, and return when they are in use.

        Raises:
            BusyError: somebody else's run of the engine is under way.
            RolloutError: the engine could not do it.
        """
        ...


class PulumiStack:
    """An endpoint of a stack of the project in a folder."""

    def __init__(self, project: Path, stack: str, endpoint: str, journals: Path) -> None:
        """Find the project and its stack file.

        Args:
            project: the folder with `Pulumi.yaml`, or one below it.
            stack: the stack's name.
            endpoint: the endpoint's name.
            journals: the folder below which rollouts keep their journals.

        Raises:
            RolloutError: there is no project, or no such stack file.
        """
        here = project.resolve()
        found = next((at for at in (here, *here.parents) if (at / "Pulumi.yaml").exists()), None)
        if found is None:
            raise RolloutError(f"there is no Pulumi.yaml in {here} or above; go to the project, or use --cwd")
        self.folder, self.stack, self.endpoint = found, stack, endpoint
        settings = yaml.safe_load((found / "Pulumi.yaml").read_text()) or {}
        self.project = str(settings["name"])
        self._file = found / str(settings.get("stackConfigDir", ".")) / f"Pulumi.{stack}.yaml"
        if not self._file.exists():
            raise RolloutError(f"there is no stack {stack}: no file {self._file.relative_to(found)}")
        self._routes: list[str] = []
        self.brake: brakes.Brake | None = None
        """Known after `present`, where the platform has one."""
        self.placement: Placement | None = None
        """What `present` found the last time."""
        backend = os.environ.get("PULUMI_BACKEND_URL") or str(found)
        digest = hashlib.sha256(backend.encode()).hexdigest()[:8]
        # Of its own for each project, stack and backend: two checkouts may have stacks of one name.
        self.home = journals / f"{self.project}-{stack}-{digest}" / endpoint

    @cached_property
    def _engine(self) -> "Engine":
        from .engine import Engine  # it takes a while, and few commands need it

        return Engine(self.folder, self.stack)

    @property
    def platform(self) -> str:
        """The name of the platform that the stack file says."""
        return str(next((v for k, v in self._config().items() if k.split(":")[-1] == "platform"), "local"))

    def estate(self) -> EstateSpec:
        """What the stack file describes.

        Raises:
            RolloutError: it cannot be.
        """
        config = self._config()
        try:
            return validate(EstateSpec, {key.split(":")[-1]: value for key, value in config.items()})
        except SpecError as error:
            raise RolloutError(f"{self._file.name} has faults, see `pulumi preview`:\n{error}") from None

    def spec(self) -> Endpoint:
        """The endpoint as the stack file describes it.

        Raises:
            RolloutError: it is not there, or cannot be.
        """
        estate = self.estate()
        if self.endpoint not in estate.endpoints:
            names = ", ".join(estate.endpoints) or "none"
            raise RolloutError(f"stack {self.stack} has no endpoint {self.endpoint}; it has {names}")
        return estate.endpoints[self.endpoint]

    def present(self) -> Placement:
        """The endpoint as it runs.

        Raises:
            RolloutError: there is no such endpoint, or no such stack.
        """
        resources = self._engine.deployment().get("resources") or []
        mine = f"$serving-estate:index:TrafficRoute::{self.endpoint}"
        routes = {one["urn"] for one in resources if one["urn"].endswith(mine)}
        self._routes = [one["urn"] for one in resources if one.get("parent") in routes]
        self.brake = brakes.find([one for one in resources if one["urn"] in self._routes], self.endpoint)
        outputs: dict[str, Any] = next(
            (one.get("outputs", {}) for one in resources if one["type"] == "pulumi:pulumi:Stack"), {}
        )
        endpoint = outputs.get("endpoints", {}).get(self.endpoint)
        if endpoint is None or not self._routes:
            raise RolloutError(
                f"endpoint {self.endpoint} is not up in stack {self.stack}; run `pulumi up` first"
            )
        variants = {
            name: Variant(str(one["model"]), int(one["weight"]), tuple(one["addresses"]))
            for name, one in endpoint["variants"].items()
        }
        self.placement = Placement(variants, str(outputs.get("gateway") or ""))
        return self.placement

    def move(self, weights: Mapping[str, int], why: str) -> None:
        """Set the weights, and return when they are in use.

        Raises:
            BusyError: somebody else's run of the engine is under way.
            RolloutError: the engine could not do it.
        """
        if not self._routes:
            self.present()
        document = yaml.safe_load(self._file.read_text())
        config = document["config"]
        key = next(key for key in config if key.split(":")[-1] == "endpoints")
        block = config[key][self.endpoint]
        # A variant without requests may have left the stack file, though nobody ran `pulumi up` since.
        known = {name: share for name, share in weights.items() if share or name in block["variants"]}
        block["rollout"] = {**(block.get("rollout") or {}), "weights": known}
        self.home.mkdir(parents=True, exist_ok=True)
        overlay = self.home / "weights.yaml"
        try:
            overlay.touch(mode=0o600)  # what the stack file encrypts stays so, the rest is nobody else's
            overlay.write_text(yaml.safe_dump(document, sort_keys=False))
            self._engine.up(self._routes, overlay, why)
        finally:
            overlay.unlink(missing_ok=True)

    def _settings(self) -> dict[str, Any]:
        """The configuration of the stack, of all namespaces."""
        return (yaml.safe_load(self._file.read_text()) or {}).get("config") or {}

    def _config(self) -> dict[str, Any]:
        prefix = f"{self.project}:"
        settings = self._settings()
        return {key: value for key, value in settings.items() if key.startswith(prefix) or ":" not in key}


def load_requests(file: Path) -> list[dict[str, Any]]:
    """Requests in a file: a JSON list, or a JSON object a line.

    Raises:
        RolloutError: there is no such file, or it holds something else.
    """
    try:
        text = file.read_text()
        found = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(line) for line in text.splitlines() if line.strip()]
        )
    except FileNotFoundError:
        raise RolloutError(f"there is no file {file}; the rollout's analysis names it") from None
    except ValueError as error:
        raise RolloutError(f"{file}: {error}; expected a JSON list, or a JSON object a line") from None
    if not all(isinstance(one, dict) and "inputs" in one for one in found):
        raise RolloutError(f"{file}: each request must be an object with `inputs`")
    return list(found)
