"""Which version stands in for another."""

from collections.abc import Mapping
from typing import Protocol, TypeVar


class _Versioned(Protocol):
    @property
    def version(self) -> str: ...


_T = TypeVar("_T", bound=_Versioned)


def previous_version(versions: Mapping[str, _T], served: _T) -> _T | None:
    """The version before this one among those that are there, if there is one.

    Numbers are compared: after a rollback from 5 to 4, 5 is not what one wants to fall back to. Names that
    are no numbers have no order of their own; the first other one is taken.
    """
    others = [one for one in versions.values() if one.version != served.version]
    if not served.version.isdigit():
        return others[0] if others else None
    older = [one for one in others if one.version.isdigit() and int(one.version) < int(served.version)]
    return max(older, key=lambda one: int(one.version), default=None)
