"""Whether there is a version to roll out, for jobs that run again and again."""

from collections.abc import Iterable, Mapping

from .errors import RolloutError
from .journal import Record
from .placement import Placement


def untried(placement: Placement, records: Iterable[Record]) -> str | None:
    """The variant without requests whose model no rollout of the endpoint has been about; None without one.

    A version that was rolled back is not tried again, and one that was replaced is not gone back to, until
    its variant has another model.

    Raises:
        RolloutError: there are several.
    """
    known: set[tuple[str, str]] = set()
    for record in records:
        if record["event"] == "started":
            models: Mapping[str, str] = record["models"]
            known |= {(name, models[name]) for name in (record["candidate"], record["stable"])}
    found = [
        name
        for name, variant in placement.variants.items()
        if not variant.weight and (name, variant.model) not in known
    ]
    if len(found) > 1:
        raise RolloutError(
            f"there are several versions that were not tried: {', '.join(found)}; say with --to which is next"
        )
    return found[0] if found else None
