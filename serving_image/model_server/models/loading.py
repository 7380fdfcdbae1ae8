"""From a resolved version to a model that may serve: fetched, verified, loaded, proved, warm."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_server.engine.static_answer import check_static_answers
from model_server.engine.warmup import Learned, warm_up
from model_server.errors import LoadFailed, ServerError
from model_server.golden import check_golden, golden_path, read_golden
from model_server.models.artifact import Artifact
from model_server.models.cache import evict, fetch
from model_server.models.format import LoadOptions, Model
from model_server.models.formats import load_artifact
from model_server.models.mlmodel import check_signature, read_example
from model_server.models.source import Resolved, Unavailable
from model_server.process.cpus import available_cpus
from model_server.settings import ModelSettings, Settings
from model_server.telemetry.logs import log
from model_server.tensors import Array, Signature

_GIGABYTE = 1e9


@dataclass(frozen=True)
class Proof:
    """What a version was asked before it may serve."""

    golden_requests: int = 0
    """Answered as recorded."""
    example: Mapping[str, Array] | None = None
    """Inputs that came with the model and that it answers."""


@dataclass(frozen=True)
class Loaded:
    """A version that passed every check."""

    artifact: Artifact
    model: Model
    learned: Learned
    proof: Proof


def load_version(model: ModelSettings, resolved: Resolved, settings: Settings, cache_dir: Path) -> Loaded:
    """Do everything that must be true before this version serves. Blocks. Raises LoadFailed, and frees."""
    artifact = fetch(resolved, settings.registry, cache_dir)
    _evict(cache_dir, settings)
    if model.sha256:
        artifact.verify(model.sha256, "the settings' sha256")
    if resolved.sha256:
        artifact.verify(resolved.sha256, "the registry's tag sha256")
    workers = settings.server.workers or available_cpus()
    options = LoadOptions(
        threads=model.threads or max(1, available_cpus() // workers),
        execution_providers=tuple(model.execution_providers),
        allow_pickle=model.allow_pickle,
    )
    try:
        loaded = load_artifact(artifact, options)
        try:
            check_signature(artifact, loaded.signature)
            check_static_answers(model, loaded.signature)
            proof = _prove(artifact, loaded)
            return Loaded(artifact, loaded, warm_up(loaded, model, settings.inline_ms / 1000), proof)
        except BaseException:
            loaded.close()
            raise
    except Unavailable:
        raise
    except ServerError as error:
        raise LoadFailed(f"{resolved.uri}: {error.message.removeprefix(f'{resolved.uri}: ')}") from error


def check_compatible(new: Signature, old: Signature) -> None:
    """Raise LoadFailed unless whoever sends requests for `old` can go on with `new`."""
    for spec in old.inputs:
        now = new.inputs_by_name.get(spec.name)
        if now is None:
            _refuse(f"input {spec.name!r} is gone")
        elif now.datatype != spec.datatype:
            _refuse(f"input {spec.name!r} was {spec.datatype} and is {now.datatype}")
        elif not now.covers(spec):
            _refuse(f"input {spec.name!r} was {list(spec.shape)} and is {list(now.shape)}")
    added = [spec.name for spec in new.inputs if spec.name not in old.inputs_by_name]
    if added:
        _refuse(f"input {added[0]!r} is new")
    for spec in old.outputs:
        now = new.outputs_by_name.get(spec.name)
        if now is None or now.datatype != spec.datatype:
            _refuse(
                f"output {spec.name!r} is gone" if now is None else f"output {spec.name!r} is {now.datatype}"
            )


def _refuse(what: str) -> None:
    raise LoadFailed(
        f"clients of the serving version would break: {what}; unload the model first, or set "
        "allow_signature_change"
    )


def _prove(artifact: Artifact, model: Model) -> Proof:
    """Golden requests must be answered as recorded; an input example is only a run with real values."""
    requests = read_golden(golden_path(artifact.root), model.signature)

    def predict(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        names = model.signature.output_names
        return dict(zip(names, model.run(inputs, names), strict=True))

    check_golden(requests, predict)
    if requests:
        return Proof(len(requests), requests[0].inputs)
    example = read_example(artifact, model.signature)
    if example is None:
        return Proof()
    try:
        predict(example)
    except ServerError as error:
        log.warning("the input example fails", extra={"source": artifact.uri, "reason": error.message})
        return Proof()
    return Proof(example=example)


def _evict(cache_dir: Path, settings: Settings) -> None:
    try:
        evict(cache_dir, settings.cache_max_gb * _GIGABYTE)
    except OSError as error:
        log.warning("the cache cannot be cleaned", extra={"path": str(cache_dir), "reason": str(error)})
