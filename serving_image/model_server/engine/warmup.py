"""Runs before a model is ready: first-run costs are paid, its speed is learned, batching is proved."""

from time import monotonic

import numpy as np

from model_server.engine.cost import Cost
from model_server.errors import ServerError
from model_server.models.format import Model
from model_server.settings import ModelSettings
from model_server.telemetry.logs import log
from model_server.tensors import Array, Signature, TensorSpec

_TRIAL_ROWS = 3
_OPEN_DIMENSION = 1
_MAX_WARMUP_SECONDS = 5.0


def warm_up(model: Model, settings: ModelSettings) -> tuple[Cost, bool]:
    """Run made-up rows; return what runs cost and whether requests may be stacked. Blocks.

    A model that refuses made-up values (text, rank-dependent shapes) still becomes ready: nothing is learned
    and, in mode auto, nothing is stacked.
    """
    cost = Cost()
    rng = np.random.default_rng(7)
    signature = model.signature
    batchable = settings.batching.mode != "off" and _has_open_rows(signature)
    try:
        single = made_up(signature, rng, 1)
        _measure(model, single, cost, settings.warmup_runs)
        if batchable:
            if settings.batching.mode == "auto" and not _stacking_is_exact(model, rng):
                log.info(
                    "batching is off: stacked rows do not give the answers of single ones",
                    extra={"model": settings.name},
                )
                batchable = False
            elif settings.warmup_runs:
                _measure(model, made_up(signature, rng, settings.batching.max_rows), cost, 2)
    except ServerError as error:
        log.warning("warm-up with made-up rows failed", extra={"model": settings.name, "reason": str(error)})
        batchable = batchable and settings.batching.mode == "on"
    return cost, batchable


def made_up(signature: Signature, rng: np.random.Generator, rows: int) -> dict[str, Array]:
    """Random inputs that fit the signature; open dimensions after the first have size 1."""
    return {spec.name: _made_up_tensor(spec, rng, rows) for spec in signature.inputs}


def _made_up_tensor(spec: TensorSpec, rng: np.random.Generator, rows: int) -> Array:
    shape = [size if size >= 0 else _OPEN_DIMENSION for size in spec.shape]
    if spec.shape and spec.shape[0] == -1:
        shape[0] = rows
    kind = spec.dtype.kind
    if kind == "O":
        text = np.empty(shape, dtype=np.object_)
        text.fill(b"a")
        return text
    if kind == "f":
        return rng.standard_normal(shape).astype(spec.dtype)
    # Small numbers: integers are often indices into a table.
    return rng.integers(0, 2, shape).astype(spec.dtype)


def _has_open_rows(signature: Signature) -> bool:
    specs = (*signature.inputs, *signature.outputs)
    return bool(signature.inputs) and all(spec.shape and spec.shape[0] == -1 for spec in specs)


def _measure(model: Model, inputs: dict[str, Array], cost: Cost, runs: int) -> None:
    elements = sum(array.size for array in inputs.values())
    begun = monotonic()
    for index in range(runs):
        started = monotonic()
        model.run(inputs, model.signature.output_names)
        # The first run allocates and optimizes: it says nothing about the next.
        if index or runs == 1:
            cost.observe(elements, monotonic() - started)
        if monotonic() - begun > _MAX_WARMUP_SECONDS:
            return


def _stacking_is_exact(model: Model, rng: np.random.Generator) -> bool:
    names = model.signature.output_names
    rows = [made_up(model.signature, rng, 1) for _ in range(_TRIAL_ROWS)]
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
