"""How a rollout begins: with one record of what there was and what was wanted."""

from collections.abc import Mapping
from typing import Any

from .errors import RolloutError
from .journal import Journal, Record
from .placement import Placement
from .state import Phase, fold, positive


def begin(
    journal: Journal,
    placement: Placement,
    rollout: Mapping[str, Any],
    endpoint: str,
    candidate: str,
    **more: Any,
) -> Record:
    """Write down that a rollout begins.

    Args:
        journal: of the endpoint.
        placement: the endpoint as it runs.
        rollout: its block of the stack file, without defaults.
        endpoint: its name.
        candidate: the variant that is to take over.
        more: further details for the record.

    Raises:
        RolloutError: it cannot begin: another one is under way, or the weights do not fit.
    """
    last = fold(journal.last())
    if last is not None and last.phase is not Phase.OVER:
        raise RolloutError(
            f"rollout {last.id} of {endpoint} is not over ({last.phase.value}); go on with "
            f"`estate rollout resume {endpoint}`, or end it with `estate rollout abort {endpoint}`"
        )
    if candidate not in placement.variants:
        names = ", ".join(placement.variants)
        raise RolloutError(f"endpoint {endpoint} has no variant {candidate}; it has {names}")
    shares = positive(placement.weights)
    others = [name for name in shares if name != candidate]
    if len(others) != 1 or shares.get(candidate):
        raise RolloutError(
            f"a rollout is from one variant that gets all requests to one that gets none, but endpoint "
            f"{endpoint} has {placement.weights}; set `rollout.weights` in the stack file for one `pulumi "
            f"up`, "
            f"or remove `rollout` and set `traffic`"
        )
    number = sum(1 for record in journal.records() if record["event"] == "started") + 1
    return journal.append(
        "started",
        id=f"{endpoint}-{number}",
        endpoint=endpoint,
        candidate=candidate,
        stable=others[0],
        rollout=dict(rollout),
        models={name: variant.model for name, variant in placement.variants.items()},
        weights=placement.weights,
        **more,
    )
