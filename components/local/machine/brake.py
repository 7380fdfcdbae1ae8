"""Taking requests away from a variant at once, without a run of the engine.

A run takes seconds, on a busy machine more, and waits for whoever holds the stack. What does harm must not
wait. So a rollback first writes the gateway's own file, and the stack follows by a run as usual. Until it
has, a note beside the file tells what that run will change: a route that asks for the weights from before the
brake, as somebody else's run does that knows no better, gets those of the brake. Any other weights were asked
for by somebody who knows what he wants: they hold, and end the brake.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import envoy
from .files import locked, read_json, remove, write_json

Weights = Mapping[str, int]


def pull(config: Path, name: str, weights: Weights, instead_of: Sequence[Weights]) -> None:
    """Have the gateway divide an endpoint's requests by `weights`, from the next request on.

    Args:
        config: the folder of the gateway's configuration files.
        name: the endpoint's.
        weights: the variants' shares in per cent, which add up to 100.
        instead_of: the weights that the stack may still ask for.

    Raises:
        OSError: the files cannot be written, or the endpoint has none.
        ValueError: a variant is not known to the gateway.
    """
    rds = routes_file(config, name)
    with locked(_lock(config, name)):
        found = read_json(rds)
        if found is None:
            raise FileNotFoundError(f"the gateway has no endpoint {name}: there is no {rds}")
        routes = envoy.discovery([envoy.reweighted(found["resources"][0], weights)])
        write_json(
            _note(config, name), {"weights": dict(weights), "instead_of": [dict(w) for w in instead_of]}
        )
        if routes != found:
            write_json(rds, routes)


def write_routes(config: Path, name: str, asked: Weights, make: Callable[[Weights], envoy.Json]) -> None:
    """Write an endpoint's routes as a run of the engine wants them, but for a brake that is on.

    Args:
        config: the folder of the gateway's configuration files.
        name: the endpoint's.
        asked: the weights that are wanted.
        make: makes the file's contents from weights.
    """
    with locked(_lock(config, name)):
        note = read_json(_note(config, name))
        weights = asked
        if note and any(_same(asked, before) for before in note["instead_of"]):
            weights = note["weights"]
        elif note:
            remove(_note(config, name))
        write_json(routes_file(config, name), make(weights))


def release(config: Path, name: str) -> None:
    """Let runs of the engine have the weights again that they ask for."""
    remove(_note(config, name))


def forget(config: Path, name: str) -> None:
    """Remove what there is of an endpoint that is no more."""
    for file in (_note(config, name), routes_file(config, name), _lock(config, name)):
        remove(file)


def routes_file(config: Path, name: str) -> Path:
    """The file in which the gateway finds the weights of an endpoint."""
    return config / f"{name}.rds.json"


def _note(config: Path, name: str) -> Path:
    return config / f"{name}.brake"


def _lock(config: Path, name: str) -> Path:
    return config / f"{name}.lock"


def _same(one: Weights, other: Weights) -> bool:
    return {k: v for k, v in one.items() if v} == {k: v for k, v in other.items() if v}
