"""Prometheus metrics that are right with many processes.

Each worker has a region of shared memory and is its only writer; whoever is scraped adds all regions up. A
restarted worker goes on in its predecessor's region, so counters never fall. An update is one addition to a
double: no lock, no system call.

A region is a list of descriptions (a JSON line each, written when a series is first used) followed by the
numbers they point to. The series of versions that are gone stay to be read for a while; then their places are
used again, or a server that sees a new version every day would run out of them.
"""

import mmap
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import orjson

_LENGTH = struct.Struct("<Q")
_LINE_STEP = 128
"""Lines are padded to a multiple of this, so that one fits where another was."""
_RETIRED_KEPT = 64
"""Versions whose series stay after the version is gone: long enough to be scraped."""
_TABLE_BYTES = 1 << 20
_VALUE_BYTES = 3 << 20
REGION_BYTES = _TABLE_BYTES + _VALUE_BYTES
"""Address space of one worker's region; pages that are never touched cost no memory."""

LATENCY_BUCKETS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds in seconds: from a logistic regression's answer to a client's patience."""
SIZE_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Counter:
    """A number that only grows."""

    __slots__ = ("_at", "_values")

    def __init__(self, values: "memoryview[float]", at: int) -> None:
        self._values = values
        self._at = at

    def add(self, amount: float = 1.0) -> None:
        """Grow by amount."""
        self._values[self._at] += amount


class Gauge(Counter):
    """A number that goes up and down; workers' gauges are added up."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """Replace the value."""
        self._values[self._at] = value


class Histogram:
    """Observations counted by upper bound."""

    __slots__ = ("_at", "_bounds", "_sum_at", "_values")

    def __init__(self, values: "memoryview[float]", at: int, bounds: tuple[float, ...]) -> None:
        self._values = values
        self._at = at
        self._bounds = bounds
        self._sum_at = at + len(bounds) + 1

    def observe(self, value: float, times: int = 1) -> None:
        """Count one value, or the same value several times."""
        values = self._values
        values[self._at + bisect_left(self._bounds, value)] += times
        values[self._sum_at] += value * times


@dataclass(frozen=True)
class _Series:
    name: str
    kind: str
    help: str
    labels: dict[str, str]
    bounds: tuple[float, ...]
    at: int

    @property
    def width(self) -> int:
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


class Metrics:
    """The series of one worker, and the reading of everybody's."""

    def __init__(self, memory: mmap.mmap | None = None, workers: int = 1, worker: int = 0) -> None:
        """Without memory: a region of its own, for one process."""
        self._memory = memory if memory is not None else shared_memory(workers)
        self._worker = worker
        self._workers = workers
        view = memoryview(self._memory)
        start = worker * REGION_BYTES
        self._table = view[start : start + _TABLE_BYTES]
        self._values = view[start + _TABLE_BYTES : start + REGION_BYTES].cast("d")
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], _Series] = {}
        self._lines: dict[int, tuple[int, int]] = {}
        """Where the description of a series begins and ends, by the place of its numbers."""
        self._placing = Lock()
        """An observer's thread makes series, too. Adding to one is left to a single thread each."""
        self._free = 0
        self._free_lines: dict[int, list[int]] = {}
        self._free_values: dict[int, list[int]] = {}
        """Places to be used again, by their size."""
        self._retired: dict[tuple[tuple[str, str], ...], None] = {}
        for series, start, end in _read_table(self._table):
            self._series[series.name, tuple(sorted(series.labels.items()))] = series
            self._lines[series.at] = start, end
            self._free = max(self._free, series.at + series.width)
            if series.kind == "gauge":
                self._values[series.at] = 0.0

    def counter(self, name: str, help_: str, labels: Mapping[str, str] | None = None) -> Counter:
        """The counter of these labels, made on first use."""
        return Counter(self._values, self._find(name, "counter", help_, labels or {}, ()).at)

    def gauge(self, name: str, help_: str, labels: Mapping[str, str] | None = None) -> Gauge:
        """The gauge of these labels, made on first use."""
        return Gauge(self._values, self._find(name, "gauge", help_, labels or {}, ()).at)

    def histogram(
        self,
        name: str,
        help_: str,
        labels: Mapping[str, str] | None = None,
        bounds: tuple[float, ...] = LATENCY_BUCKETS,
    ) -> Histogram:
        """The histogram of these labels, made on first use."""
        series = self._find(name, "histogram", help_, labels or {}, bounds)
        return Histogram(self._values, series.at, series.bounds)

    def retire(self, labels: Mapping[str, str]) -> None:
        """Nobody adds to the series with these labels any more, unless `revive` says otherwise."""
        self._retired[tuple(sorted(labels.items()))] = None
        while len(self._retired) > _RETIRED_KEPT:
            oldest = next(iter(self._retired))
            del self._retired[oldest]
            with self._placing:
                self._drop(dict(oldest))

    def revive(self, labels: Mapping[str, str]) -> None:
        """The series with these labels are used again: they go on where they were."""
        self._retired.pop(tuple(sorted(labels.items())), None)

    def totals(self, name: str, labels: Mapping[str, str]) -> list[float]:
        """Numbers of the series with at least these labels, added up over workers and other labels.

        A histogram's are its counts by bucket, then the sum. Without any such series: two zeros.
        """
        total: list[float] = []
        for series, numbers in self._read_all():
            if series.name == name and labels.items() <= series.labels.items():
                total = [a + b for a, b in zip(total, numbers, strict=True)] if total else list(numbers)
        return total or [0.0, 0.0]

    def render(self) -> bytes:
        """All workers' series in Prometheus' text format."""
        families: dict[str, tuple[_Series, dict[str, Sequence[float]]]] = {}
        for series, numbers in self._read_all():
            _, by_labels = families.setdefault(series.name, (series, {}))
            key = _label_text(series.labels)
            known = by_labels.get(key)
            by_labels[key] = (
                numbers if known is None else [a + b for a, b in zip(known, numbers, strict=True)]
            )
        lines: list[str] = []
        for name, (series, by_labels) in sorted(families.items()):
            lines.append(f"# HELP {name} {series.help}")
            lines.append(f"# TYPE {name} {series.kind}")
            for labels, numbers in sorted(by_labels.items()):
                lines.extend(_lines(series, labels, numbers))
        return ("\n".join(lines) + "\n").encode()

    def _read_all(self) -> Iterable[tuple[_Series, Sequence[float]]]:
        view = memoryview(self._memory)
        for worker in range(self._workers):
            start = worker * REGION_BYTES
            values = view[start + _TABLE_BYTES : start + REGION_BYTES].cast("d")
            for series, _, _ in _read_table(view[start : start + _TABLE_BYTES]):
                yield series, values[series.at : series.at + series.width].tolist()

    def _find(
        self, name: str, kind: str, help_: str, labels: Mapping[str, str], bounds: tuple[float, ...]
    ) -> _Series:
        key = (name, tuple(sorted(labels.items())))
        series = self._series.get(key)
        if series is None:
            with self._placing:
                series = self._series.get(key)
                if series is None:
                    series = self._place(_Series(name, kind, help_, dict(labels), bounds, 0))
                    self._series[key] = series
        return series

    def _place(self, series: _Series) -> _Series:
        """Find room for a series and describe it. Raises MemoryError."""
        free = self._free_values.get(series.width)
        at = free.pop() if free else self._free
        series = replace(series, at=at)
        line = orjson.dumps([series.name, series.kind, series.help, series.labels, series.bounds, at])
        size = -(-(len(line) + 1) // _LINE_STEP) * _LINE_STEP
        line = line.ljust(size - 1) + b"\n"
        begun = self._free_lines.get(size)
        (used,) = _LENGTH.unpack_from(self._table)
        start = begun.pop() if begun else _LENGTH.size + used
        end = start + size
        if end > _TABLE_BYTES or at + series.width > len(self._values):
            raise MemoryError(f"no room for another series of {series.name}: too many models or versions")
        self._table[start:end] = line
        self._lines[at] = start, end
        self._free = max(self._free, at + series.width)
        # The length last: a reader in another process never sees half a line.
        _LENGTH.pack_into(self._table, 0, max(used, end - _LENGTH.size))
        return series

    def _drop(self, labels: Mapping[str, str]) -> None:
        for key, series in list(self._series.items()):
            if labels.items() <= series.labels.items():
                start, end = self._lines.pop(series.at)
                self._table[start:end] = b"\n".rjust(end - start)
                for at in range(series.at, series.at + series.width):
                    self._values[at] = 0.0
                self._free_lines.setdefault(end - start, []).append(start)
                self._free_values.setdefault(series.width, []).append(series.at)
                del self._series[key]


def shared_memory(workers: int) -> mmap.mmap:
    """Memory for this many workers, shared with child processes."""
    return mmap.mmap(-1, workers * REGION_BYTES)


def _read_table(table: memoryview) -> Iterable[tuple[_Series, int, int]]:
    """Every series with the begin and end of its line."""
    (used,) = _LENGTH.unpack_from(table)
    end = _LENGTH.size
    for line in bytes(table[_LENGTH.size : _LENGTH.size + used]).splitlines(keepends=True):
        start, end = end, end + len(line)
        try:
            name, kind, help_, labels, bounds, at = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # free, or being written in this moment
        yield _Series(name, kind, help_, labels, tuple(bounds), at), start, end


def _lines(series: _Series, labels: str, numbers: Sequence[float]) -> Iterable[str]:
    if series.kind != "histogram":
        yield (
            f"{series.name}{{{labels}}} {_number(numbers[0])}"
            if labels
            else f"{series.name} {_number(numbers[0])}"
        )
        return
    comma = "," if labels else ""
    total = 0.0
    for bound, count in zip((*series.bounds, None), numbers, strict=False):
        total += count
        le = "+Inf" if bound is None else _number(bound)
        yield f'{series.name}_bucket{{{labels}{comma}le="{le}"}} {_number(total)}'
    braces = f"{{{labels}}}" if labels else ""
    yield f"{series.name}_sum{braces} {_number(numbers[-1])}"
    yield f"{series.name}_count{braces} {_number(total)}"


def _label_text(labels: Mapping[str, Any]) -> str:
    return ",".join(f'{key}="{_escape(str(value))}"' for key, value in sorted(labels.items()))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
