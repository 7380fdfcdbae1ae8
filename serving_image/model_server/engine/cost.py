"""How long a run of a model takes, learned from its runs."""

_FASTER_WEIGHT = 0.3
_SLOWER_WEIGHT = 0.05
_OUTLIER = 4.0


class Cost:
    """Seconds of a run by the size of its inputs.

    Sizes are kept in powers of two; a size never seen is guessed from the next smaller one, in proportion,
    so that a guess is rather too long than too short.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def observe(self, elements: int, seconds: float) -> None:
        """Learn from a run with this many input elements."""
        key = elements.bit_length()
        known = self._seconds.get(key)
        if known is None:
            self._seconds[key] = seconds
            return
        # A single slow run says little: caches were cold, or memory had to be found.
        weight = _FASTER_WEIGHT if seconds < known else _SLOWER_WEIGHT
        self._seconds[key] = known + weight * (min(seconds, _OUTLIER * known) - known)

    def expect(self, elements: int) -> float:
        """Seconds that a run with this many input elements will take; infinite when nothing is known."""
        key = elements.bit_length()
        known = self._seconds.get(key)
        if known is not None:
            return known
        smaller = max((k for k in self._seconds if k < key), default=None)
        if smaller is not None:
            return self._seconds[smaller] * float(2 ** (key - smaller))
        return min(self._seconds.values(), default=float("inf"))
