"""The models that are serving: loaded, warmed, swapped and freed here, looked up from every protocol."""

import asyncio
import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic

from model_server.engine.lane import Lane
from model_server.engine.previous import previous_version
from model_server.engine.static_answer import check_static_answers
from model_server.engine.warmup import warm_up
from model_server.errors import LoadFailed, NotFound, NotReady, ServerError
from model_server.models.artifact import Artifact
from model_server.models.cache import default_cache_dir, fetch
from model_server.models.format import LoadOptions, Model
from model_server.models.formats import load_artifact
from model_server.models.source import Resolved
from model_server.models.sources import resolve
from model_server.process.cpus import available_cpus
from model_server.process.memory import return_freed_memory
from model_server.settings import ModelSettings, Settings
from model_server.telemetry.logs import log
from model_server.telemetry.metrics import Counter, Metrics
from model_server.telemetry.model_meters import ModelMeters

_BACKGROUND_NICENESS = 5


@dataclass(frozen=True, slots=True)
class Served:
    """One version of one model that answers requests."""

    name: str
    version: str
    artifact: Artifact
    model: Model
    lane: Lane
    batch_rows: int
    """Rows that are stacked at most; 0 when requests are run one by one."""


@dataclass(slots=True)
class ModelEntry:
    """One declared model."""

    settings: ModelSettings
    versions: dict[str, Served] = field(default_factory=dict)
    default: Served | None = None
    """Who answers when the client names no version."""
    state: str = "UNAVAILABLE"
    """READY, LOADING, UNLOADING or UNAVAILABLE, as the repository extension names them. READY means that the
    default version answers, even while a newer one loads."""
    reason: str = ""
    """Why it is not ready, or why the last load failed while an older version goes on serving."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Repository:
    """All models of this process. Used on the event loop only."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._entries = {model.name: ModelEntry(model) for model in settings.models}
        self._cache_dir = settings.cache_dir or default_cache_dir()
        self._loader = ThreadPoolExecutor(2, "load", _lower_priority)
        threads = sum(model.concurrency for model in settings.models)
        self._runner = ThreadPoolExecutor(max(threads, 1), "run", _lower_priority)
        self.on_change: list[Callable[[str], None]] = []
        """Called with a model's name after its versions changed."""

    def entry(self, name: str) -> ModelEntry:
        """A declared model. Raises NotFound."""
        entry = self._entries.get(name)
        if entry is None:
            raise NotFound(f"model {name!r:.200} is not known to this server")
        return entry

    def entries(self) -> list[ModelEntry]:
        """Every declared model."""
        return list(self._entries.values())

    def get(self, name: str, version: str = "") -> Served:
        """Who answers for this model. Raises NotFound, NotReady."""
        entry = self._entries.get(name)
        if entry is None:
            raise NotFound(f"model {name!r:.200} is not known to this server")
        served = entry.versions.get(version) if version else entry.default
        if served is not None:
            return served
        if version and entry.versions:
            known = ", ".join(sorted(entry.versions))
            raise NotFound(f"model {name!r} has no version {version!r:.100} here; it has {known}")
        raise NotReady(f"model {name!r} is not ready: {entry.reason or entry.state.lower()}")

    def not_ready(self) -> list[ModelEntry]:
        """Declared models that cannot answer now."""
        return [entry for entry in self._entries.values() if entry.default is None]

    async def load_all(self, besides: Collection[str] = ()) -> None:
        """Load every declared model; failures are logged and kept as the entries' reasons."""
        for name in besides:
            self._entries[name].reason = "it was unloaded"
        await asyncio.gather(*(self._load_or_note(name) for name in self._entries if name not in besides))

    async def load(self, name: str) -> Served:
        """Load what the model's source means now, warm it beside the running version, flip, free the old one.

        Raises NotFound, LoadFailed; then the old version goes on serving.
        """
        entry = self.entry(name)
        async with entry.lock:
            return await self._load(entry)

    async def unload(self, name: str) -> None:
        """Stop serving a model: refuse new calls, finish those taken, free the memory."""
        entry = self.entry(name)
        async with entry.lock:
            versions = list(entry.versions.values())
            entry.default, entry.versions = None, {}
            entry.state, entry.reason = "UNLOADING", "it is being unloaded"
            await self._free(versions)
            entry.state, entry.reason = "UNAVAILABLE", "it was unloaded"
            self._changed(entry)

    async def close(self) -> None:
        """Finish every call and free every model."""
        await asyncio.gather(*(self.unload(name) for name in self._entries))
        self._loader.shutdown(wait=False, cancel_futures=True)
        self._runner.shutdown(wait=False, cancel_futures=True)

    async def _free(self, versions: list[Served]) -> None:
        """Finish what these versions took on, then give their memory back."""
        if versions:
            await asyncio.gather(*(served.lane.close() for served in versions))
            await asyncio.get_running_loop().run_in_executor(self._loader, return_freed_memory)

    async def _load_or_note(self, name: str) -> None:
        try:
            await self.load(name)
        except ServerError as error:
            reason = {"model": name, "reason": error.message}
            log.error("model cannot be loaded", extra=reason)  # noqa: TRY400 - the message says it all

    async def _load(self, entry: ModelEntry) -> Served:
        settings = entry.settings
        if entry.default is None:
            entry.state = "LOADING"
        begun = monotonic()
        loop = asyncio.get_running_loop()
        try:
            resolved = await loop.run_in_executor(self._loader, resolve, settings, self._settings.registry)
            served = await self._bring_up(settings, resolved)
        except ServerError as error:
            entry.reason = error.message
            if entry.default is None:
                entry.state = "UNAVAILABLE"
            self._loads(settings.name, "failed").add()
            raise
        old = list(entry.versions.values())
        entry.versions, entry.default = {served.version: served}, served
        if any(rung.previous_version for rung in settings.fallback.rungs):
            previous = previous_version({one.version: one for one in old}, served)
            if previous is not None:
                entry.versions[previous.version] = previous
                old.remove(previous)
        entry.state, entry.reason = "READY", ""
        self._changed(entry)
        seconds = monotonic() - begun
        self._loads(settings.name, "succeeded").add()
        log.info(
            "model is ready",
            extra={
                "model": settings.name,
                "version": served.version,
                "source": served.artifact.uri,
                "sha256": served.artifact.digest,
                "batch_rows": served.batch_rows,
                "seconds": round(seconds, 3),
            },
        )
        await self._free(old)
        return served

    async def _bring_up(self, settings: ModelSettings, resolved: Resolved) -> Served:
        loop = asyncio.get_running_loop()
        artifact, model = await loop.run_in_executor(self._loader, self._fetch_and_load, settings, resolved)
        check_static_answers(settings, model.signature)
        learned = await loop.run_in_executor(
            self._loader, warm_up, model, settings, self._settings.inline_ms / 1000
        )
        lane = Lane(
            model,
            settings,
            ModelMeters(self._metrics, settings.name, resolved.version),
            self._runner,
            learned,
            self._settings.inline_ms / 1000,
        )
        return Served(settings.name, resolved.version, artifact, model, lane, learned.max_rows)

    def _fetch_and_load(self, settings: ModelSettings, resolved: Resolved) -> tuple[Artifact, Model]:
        artifact = fetch(resolved, self._settings.registry, self._cache_dir)
        workers = self._settings.server.workers or available_cpus()
        threads = settings.threads or max(1, available_cpus() // workers)
        try:
            return artifact, load_artifact(
                artifact, LoadOptions(threads, tuple(settings.execution_providers))
            )
        except LoadFailed as error:
            raise LoadFailed(f"{settings.source}: {error.message}") from error

    def _loads(self, model: str, outcome: str) -> Counter:
        return self._metrics.counter(
            "model_server_model_loads_total",
            "Loads of a model, by outcome.",
            {"model": model, "outcome": outcome},
        )

    def _changed(self, entry: ModelEntry) -> None:
        ready = self._metrics.gauge(
            "model_server_model_ready",
            "Workers in which the model can answer.",
            {"model": entry.settings.name},
        )
        ready.set(float(entry.default is not None))
        for callback in self.on_change:
            callback(entry.settings.name)


def _lower_priority() -> None:
    """Threads that load or compute for long yield to the event loop when CPUs are scarce."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _BACKGROUND_NICENESS)
    except OSError:
        log.debug("thread priority cannot be lowered")
