"""Runs before a model is ready: first-run costs are paid, its speed is learned, batching is proved."""

import math
from dataclasses import dataclass
from time import monotonic, thread_time

import numpy as np

from model_server.engine.cost import Cost
from model_server.errors import ServerError
from model_server.models.format import Model
from model_server.settings import ModelSettings
from model_server.telemetry.logs import log
from model_server.tensors import Array, Signature, TensorSpec

_TRIAL_ROWS = 3
_TRIAL_RUNS = 4
_WORTHWHILE = 0.9
_OPEN_DIMENSION = 1
_STRIDE = 12.9898
_SEED_STRIDE = 78.233
_MAX_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Learned:
    """What warm-up found out about a model."""

    cost: Cost
    max_rows: int
    """Rows up to which stacking pays; 0 when requests must not be stacked."""


def warm_up(model: Model, settings: ModelSettings, short_seconds: float) -> Learned:
    """Run made-up rows; return what runs cost and how many rows are worth stacking. Blocks.

    A model that refuses made-up values (text, shapes that depend on each other) still becomes ready: nothing
    is learned and, in mode auto, nothing is stacked. Runs up to `short_seconds` are worth any number of rows.
    """
    cost = Cost()
    batching = settings.batching
    stackable = batching.mode != "off" and _has_open_rows(model.signature)
    try:
        _measure(model, made_up(model.signature, 1), cost, settings.warmup_runs)
        if not stackable:
            return Learned(cost, 0)
        if batching.mode == "on":
            return Learned(cost, batching.max_rows)
        if not _stacking_is_exact(model):
            log.info(
                "batching is off: stacked rows do not give the answers of single ones",
                extra={"model": settings.name},
            )
            return Learned(cost, 0)
        return Learned(cost, _rows_that_pay(model, cost, batching.max_rows, short_seconds))
    except ServerError as error:
        log.warning(
            "warm-up with made-up rows failed", extra={"model": settings.name, "reason": error.message}
        )
        return Learned(cost, batching.max_rows if stackable and batching.mode == "on" else 0)


def _rows_that_pay(model: Model, cost: Cost, limit: int, short_seconds: float) -> int:
    """Double the rows while that makes a row clearly cheaper, or the run is short anyway.

    Where a run takes long and rows gain nothing from company, stacking would only make everybody wait for
    everybody. Trying no more rows than pay also keeps warm-up's memory small.
    """
    rows = 1
    alone = _measure(model, made_up(model.signature, 1), cost, _TRIAL_RUNS)
    while rows * 2 <= limit:
        together = _measure(model, made_up(model.signature, rows * 2), cost, _TRIAL_RUNS)
        if together > short_seconds and together > 2 * alone * _WORTHWHILE:
            break
        rows, alone = rows * 2, together
    return rows


def made_up(signature: Signature, rows: int, seed: int = 0) -> dict[str, Array]:
    """Inputs that fit the signature, different for each seed; open dimensions after the first have size 1."""
    return {spec.name: _made_up_tensor(spec, rows, seed) for spec in signature.inputs}


def _made_up_tensor(spec: TensorSpec, rows: int, seed: int) -> Array:
    shape = [size if size >= 0 else _OPEN_DIMENSION for size in spec.shape]
    if spec.shape and spec.shape[0] == -1:
        shape[0] = rows
    kind = spec.dtype.kind
    if kind == "O":
        text = np.empty(shape, dtype=np.object_)
        text.fill(b"a")
        return text
    # Not numpy.random: importing it takes longer than loading a small model.
    noise = np.sin(np.arange(math.prod(shape), dtype=np.float64) * _STRIDE + seed * _SEED_STRIDE).reshape(
        shape
    )
    # Integers are often indices into a table: keep them at 0 and 1.
    return (noise if kind == "f" else noise > 0).astype(spec.dtype)


def _has_open_rows(signature: Signature) -> bool:
    specs = (*signature.inputs, *signature.outputs)
    return bool(signature.inputs) and all(spec.shape and spec.shape[0] == -1 for spec in specs)


def _measure(model: Model, inputs: dict[str, Array], cost: Cost, runs: int) -> float:
    """CPU seconds of the fastest run; infinite without one."""
    elements = sum(array.size for array in inputs.values())
    begun = monotonic()
    fastest = float("inf")
    for index in range(runs):
        started = thread_time()
        model.run(inputs, model.signature.output_names)
        took = thread_time() - started
        # The first run allocates and optimizes: it says nothing about the next.
        if index or runs == 1:
            cost.observe(elements, took)
            fastest = min(fastest, took)
        if monotonic() - begun > _MAX_SECONDS:
            break
    return fastest


def _stacking_is_exact(model: Model) -> bool:
    names = model.signature.output_names
    rows = [made_up(model.signature, 1, seed) for seed in range(_TRIAL_ROWS)]
    stacked = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    together = model.run(stacked, names)
    if any(not output.shape or output.shape[0] != _TRIAL_ROWS for output in together):
        return False
    for index, row in enumerate(rows):
        for whole, alone in zip(together, model.run(row, names), strict=True):
            part = whole[index : index + 1]
            if part.shape != alone.shape:
                return False
            if part.dtype.kind == "f":
                if not np.allclose(part, alone, rtol=1e-4, atol=1e-5, equal_nan=True):
                    return False
            elif not np.array_equal(part, alone):
                return False
    return True
