"""What became of our inputs in a cluster: which fields somebody changed, and which it only writes otherwise.

`cpu: 1000m` comes back as `cpu: "1"`, defaults are filled in, lists are merged. To tell that from a change,
the API server is asked what the inputs would make of the live object, without making it: what then differs
from the live object is a change.
"""

from collections.abc import Mapping
from typing import Any

from .objects import at, readable_secret, without_servers_own


def pruned(live: Any, inputs: Any) -> Any:
    """A live object with only the fields that the inputs have."""
    if isinstance(live, Mapping) and isinstance(inputs, Mapping):
        return {key: pruned(live[key], inputs[key]) for key in inputs if key in live}
    if isinstance(live, list) and isinstance(inputs, list) and len(live) == len(inputs):
        return [pruned(one, other) for one, other in zip(live, inputs, strict=True)]
    return live


def observed(
    inputs: Mapping[str, Any], live: Mapping[str, Any], applied: Mapping[str, Any]
) -> dict[str, Any]:
    """The inputs as they now hold: those that hold still as they were written, the others as they are.

    `applied` is what applying the inputs would make of `live`.
    """
    live, applied = readable_secret(live, inputs), readable_secret(applied, inputs)
    return {
        key: _observed(value, live.get(key), applied.get(key))
        for key, value in inputs.items()
        if key in live or key not in applied
    }


def _observed(wanted: Any, live: Any, applied: Any) -> Any:
    if live == applied:
        return wanted
    if isinstance(wanted, Mapping) and isinstance(live, Mapping) and isinstance(applied, Mapping):
        return {
            key: _observed(value, live.get(key), applied.get(key))
            for key, value in wanted.items()
            if key in live or key not in applied
        }
    if all(isinstance(one, list) for one in (wanted, live, applied)) and (
        len(wanted) == len(live) == len(applied)
    ):
        return [_observed(*three) for three in zip(wanted, live, applied, strict=True)]
    return pruned(live, wanted)


def same(one: Mapping[str, Any], other: Mapping[str, Any], manager: str) -> bool:
    """Whether applying changed nothing: no field, and none of the fields that the manager owns."""
    return without_servers_own(one) == without_servers_own(other) and _owned(one, manager) == _owned(
        other, manager
    )


def _owned(live: Mapping[str, Any], manager: str) -> Any:
    for entry in at(live, "metadata", "managedFields", default=[]):
        if entry.get("manager") == manager and entry.get("operation") == "Apply":
            return entry.get("fieldsV1")
    return None


def ignoring(
    inputs: dict[str, Any], live: Mapping[str, Any], ignored: list[tuple[str | int, ...]], manager: str
) -> None:
    """Leave to others, in inputs about to be applied, the fields that the program ignores.

    A field that others own and we do not is left out: naming it would be a conflict, or take it from them.
    One that we own keeps its live value: leaving it out would remove it. Paths into lists are left as they
    are, as the official provider leaves them.
    """
    entries = at(live, "metadata", "managedFields", default=[])
    ours = [entry.get("fieldsV1") for entry in entries if entry.get("manager") == manager]
    theirs = [entry.get("fieldsV1") for entry in entries if entry.get("manager") != manager]
    for path in ignored:
        names = [step for step in path if isinstance(step, str) and step != "*"]
        if len(names) != len(path):
            continue
        found = at(live, *names)
        if any(_owns(fields, names) for fields in theirs) and not any(
            _owns(fields, names) for fields in ours
        ):
            _remove(inputs, names)
        elif found is not None:
            _set(inputs, names, found)


def _owns(fields: Any, names: list[str]) -> bool:
    for name in names:
        if not isinstance(fields, Mapping) or f"f:{name}" not in fields:
            return False
        fields = fields[f"f:{name}"]
    return True


def _remove(value: dict[str, Any], names: list[str]) -> None:
    for name in names[:-1]:
        inner = value.get(name)
        if not isinstance(inner, dict):
            return
        value = inner
    value.pop(names[-1], None)


def _set(value: dict[str, Any], names: list[str], found: Any) -> None:
    for name in names[:-1]:
        inner = value.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        value = inner
    value[names[-1]] = found
