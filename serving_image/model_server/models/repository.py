"""The models that are serving: loaded, warmed, swapped and freed here, looked up from every protocol.

A change happens in two steps, so that all workers of a server can take them together: `prepare` loads a
version and warms it beside those that serve; `apply` flips to a plan, and what the plan leaves out finishes
what it has taken and is freed. Nothing is ever between two versions: until `apply` the old one answers, from
then on the new one. `models/update.py` leads the two steps.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import monotonic

from model_server.engine.lane import Lane
from model_server.engine.previous import previous_version
from model_server.errors import LoadFailed, NotFound, NotReady, ServerError
from model_server.models.artifact import Artifact
from model_server.models.cache import default_cache_dir
from model_server.models.format import Model
from model_server.models.loading import Proof, check_compatible, load_version
from model_server.models.source import Plan, Resolved
from model_server.models.sources import resolve
from model_server.process.memory import return_freed_memory
from model_server.settings import ModelSettings, Settings
from model_server.telemetry.logs import log
from model_server.telemetry.metrics import Metrics
from model_server.telemetry.model_meters import ModelMeters

_BACKGROUND_NICENESS = 5
_LINGER_SECONDS = 0.5
"""A version that is replaced goes on taking calls for so long, from whoever looked it up before the flip."""


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
    resolved: Resolved
    proof: Proof
    stamp: str = ""
    """See Plan.stamp."""

    def is_as_planned(self, resolved: Resolved, stamp: str) -> bool:
        """Whether a plan that has this version needs nothing loaded."""
        return self.resolved == resolved and (not stamp or self.stamp == stamp)


@dataclass(slots=True)
class ModelEntry:
    """One declared model."""

    settings: ModelSettings
    versions: dict[str, Served] = field(default_factory=dict)
    default: Served | None = None
    """Who answers when the client names no version: the first of the plan."""
    kept: frozenset[str] = frozenset()
    """Of the versions, those that only stand in for others; see Plan.kept."""
    prepared: dict[str, Served] = field(default_factory=dict)
    """Loaded and warm, not yet serving."""
    state: str = "UNAVAILABLE"
    """READY, LOADING, UNLOADING or UNAVAILABLE, as the repository extension names them. READY means that the
    default version answers, even while a newer one loads."""
    reason: str = ""
    """Why it is not ready, or why the last change was refused while an older version goes on serving."""
    source_error: str = ""
    """Why the last look at the source failed; empty if it did not."""
    unloaded: bool = False
    """Somebody asked for it to be unloaded: nothing loads it again but the same."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def serves(self, plan: Plan) -> bool:
        """Whether the plan is what serves already."""
        served = [self.versions.get(resolved.version) for resolved in plan.versions]
        return (
            len(self.versions) == len(served) + len(self.with_previous(plan).kept)
            and self.default is served[0]
            and all(
                one is not None and one.is_as_planned(resolved, plan.stamp)
                for one, resolved in zip(served, plan.versions, strict=True)
            )
        )

    def plan(self) -> Plan | None:
        """What serves now; None if nothing does."""
        if self.default is None:
            return None
        others = [served for served in self.versions.values() if served is not self.default]
        return Plan(
            (self.default.resolved, *(one.resolved for one in others if one.version not in self.kept)),
            kept=tuple(one.resolved for one in others if one.version in self.kept),
        )

    def with_previous(self, plan: Plan) -> Plan:
        """The plan, with what a `previous_version` rung needs: the version before the plan's default one.

        Only what serves now is kept: nothing is loaded for a rung.
        """
        if not any(rung.previous_version for rung in self.settings.fallback.rungs):
            return plan
        planned = {resolved.version: resolved for resolved in plan.versions}
        running = {served.version: served.resolved for served in self.versions.values()}
        previous = previous_version(running | planned, plan.versions[0])
        kept = () if previous is None or previous.version in planned else (previous,)
        return replace(plan, kept=kept)


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
        self._retiring: set[asyncio.Task[None]] = set()
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

    async def load_all(self, plans: Mapping[str, Plan], besides: Collection[str] = ()) -> None:
        """Load every declared model, by these plans where there is one; failures are logged and noted."""
        for name in besides:
            self._entries[name].reason, self._entries[name].unloaded = "it was unloaded", True
        names = [name for name in self._entries if name not in besides]
        await asyncio.gather(*(self._load_at_start(name, plans.get(name)) for name in names))

    async def resolve(self, name: str, patient: bool = True) -> Plan:
        """Ask what the model's source means now. Raises NotFound, LoadFailed.

        `patient`: repeat what fails for a while, as the settings say.
        """
        settings = self.entry(name).settings
        registry = self._settings.registry
        if not patient:
            registry = registry.model_copy(update={"retry_seconds": 0.0})
        loop = asyncio.get_running_loop()
        return Plan(await loop.run_in_executor(self._loader, resolve, settings, registry))

    async def load(self, name: str) -> Served:
        """Load what the model's source means now, in this process alone. Raises NotFound, LoadFailed."""
        plan = await self.resolve(name)
        await self.apply(name, self.entry(name).with_previous(plan))
        return self.get(name)

    async def prepare(self, name: str, resolved: Resolved, stamp: str, as_default: bool) -> None:
        """Load and warm a version beside those that serve. Raises NotFound, LoadFailed."""
        entry = self.entry(name)
        async with entry.lock:
            await self._prepare(entry, resolved, stamp, as_default)

    async def apply(self, name: str, plan: Plan, reason: str = "") -> None:
        """Flip to a plan; free what it leaves out once that has finished.

        `reason`: why it is not the plan that was wished for.
        Raises NotFound, LoadFailed; then the old versions go on serving.
        """
        entry = self.entry(name)
        async with entry.lock:
            for resolved in plan.versions:
                await self._prepare(entry, resolved, plan.stamp, as_default=False)
            kept = [resolved for resolved in plan.kept if await self._can_keep(entry, resolved)]
            versions: dict[str, Served] = {}
            for resolved in (*plan.versions, *kept):
                known = entry.prepared.pop(resolved.version, None)
                versions[resolved.version] = known or entry.versions[resolved.version]
            staying = set(map(id, versions.values()))
            leftover = (*entry.versions.values(), *entry.prepared.values())
            retired = [served for served in leftover if id(served) not in staying]
            entry.versions, entry.default, entry.prepared = versions, versions[plan.versions[0].version], {}
            entry.kept = frozenset(resolved.version for resolved in kept)
            entry.state, entry.reason, entry.unloaded = "READY", reason, False
            self._changed(entry)
            self._retire(retired)

    def note(self, name: str, reason: str) -> None:
        """Keep why a model could not be loaded, or not be changed."""
        entry = self.entry(name)
        entry.reason = reason
        if entry.default is None and not entry.unloaded:
            entry.state = "UNAVAILABLE"
        self._changed(entry)

    async def refuse(self, name: str, reason: str) -> None:
        """Give up what was prepared, and say why."""
        entry = self.entry(name)
        async with entry.lock:
            self._drop_prepared(entry)
            self.note(name, reason)

    def note_source(self, name: str, error: str) -> None:
        """Keep why the model's source could not be asked; empty when it answers."""
        self.entry(name).source_error = error
        self._metrics.gauge(
            "model_server_source_unreachable",
            "Whether the last look at the model's source failed, so that changes are not noticed.",
            {"model": name},
        ).set(float(bool(error)))

    async def load_missing(self, name: str) -> None:
        """Try again, in this process alone, to load a model that did not load."""
        entry = self.entry(name)
        if entry.default is None and not entry.unloaded and entry.state == "UNAVAILABLE":
            await self._load_at_start(name, None, patient=False)

    async def unload(self, name: str) -> None:
        """Stop serving a model: refuse new calls, finish those taken, free the memory."""
        entry = self.entry(name)
        async with entry.lock:
            versions = [*entry.versions.values(), *entry.prepared.values()]
            entry.default, entry.versions, entry.prepared, entry.kept = None, {}, {}, frozenset()
            entry.state, entry.reason, entry.unloaded = "UNLOADING", "it is being unloaded", True
            await self._free(versions)
            entry.state, entry.reason = "UNAVAILABLE", "it was unloaded"
            self._changed(entry)

    async def close(self) -> None:
        """Finish every call and free every model."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*(self.unload(name) for name in self._entries))
        self._loader.shutdown(wait=False, cancel_futures=True)
        self._runner.shutdown(wait=False, cancel_futures=True)

    async def _load_at_start(self, name: str, plan: Plan | None, patient: bool = True) -> None:
        """Whatever can be served is; the rest is said."""
        entry = self._entries[name]
        entry.state = "LOADING"
        failures: list[str] = []
        good: list[Resolved] = []
        try:
            plan = plan or await self.resolve(name, patient)
            for resolved in plan.versions:
                try:
                    await self.prepare(name, resolved, "", as_default=False)
                    good.append(resolved)
                except ServerError as error:
                    failures.append(error.message)
            # While this waited for the registry, another worker may have brought a newer plan.
            if good and entry.default is None and not entry.unloaded:
                await self.apply(name, Plan(tuple(good), kept=plan.kept), "; ".join(failures))
            self._drop_prepared(entry)
        except ServerError as error:
            failures.append(error.message)
        if entry.default is None and not entry.unloaded:
            self.note(name, "; ".join(failures))
            log.error("model cannot be loaded", extra={"model": name, "reason": entry.reason})

    async def _can_keep(self, entry: ModelEntry, resolved: Resolved) -> bool:
        """Whether this worker has a version that only stands in, or can load it: a replacement must."""
        try:
            await self._prepare(entry, resolved, "", as_default=False)
        except ServerError as error:
            reason = {"model": entry.settings.name, "version": resolved.version, "reason": error.message}
            log.warning("a version cannot be kept for the degradation ladder", extra=reason)
            return False
        return True

    async def _prepare(self, entry: ModelEntry, resolved: Resolved, stamp: str, as_default: bool) -> None:
        for known in (entry.versions.get(resolved.version), entry.prepared.get(resolved.version)):
            if known is not None and known.is_as_planned(resolved, stamp):
                return
        begun = monotonic()
        try:
            served = await self._bring_up(entry, resolved, stamp, as_default)
        except Exception as error:
            self._count_load(entry, "failed")
            if isinstance(error, ServerError):
                raise
            log.exception("a load failed in an unexpected way", extra={"model": entry.settings.name})
            raise LoadFailed(f"{resolved.uri}: {type(error).__name__}: {error}") from error
        replaced = entry.prepared.pop(resolved.version, None)
        entry.prepared[resolved.version] = served
        self._retire([replaced] if replaced else [])
        self._count_load(entry, "succeeded")
        log.info(
            "model is ready",
            extra={
                "model": served.name,
                "version": served.version,
                "source": served.artifact.uri,
                "sha256": served.artifact.digest,
                "files": len(served.artifact.digests),
                "batch_rows": served.batch_rows,
                "seconds": round(monotonic() - begun, 3),
            },
        )

    async def _bring_up(self, entry: ModelEntry, resolved: Resolved, stamp: str, as_default: bool) -> Served:
        settings = entry.settings
        loop = asyncio.get_running_loop()
        loaded = await loop.run_in_executor(
            self._loader, load_version, settings, resolved, self._settings, self._cache_dir
        )
        if as_default and entry.default is not None and not settings.allow_signature_change:
            try:
                check_compatible(loaded.model.signature, entry.default.model.signature)
            except LoadFailed as error:
                loaded.model.close()
                raise LoadFailed(f"{resolved.uri}: {error.message}") from error
        lane = Lane(
            loaded.model,
            settings,
            ModelMeters(self._metrics, settings.name, resolved.version),
            self._runner,
            loaded.learned,
            self._settings.inline_ms / 1000,
        )
        return Served(
            settings.name,
            resolved.version,
            loaded.artifact,
            loaded.model,
            lane,
            loaded.learned.max_rows,
            resolved,
            loaded.proof,
            stamp,
        )

    def _drop_prepared(self, entry: ModelEntry) -> None:
        dropped, entry.prepared = list(entry.prepared.values()), {}
        self._retire(dropped)

    def _retire(self, versions: list[Served]) -> None:
        if versions:
            task = asyncio.get_running_loop().create_task(self._free_later(versions))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _free_later(self, versions: list[Served]) -> None:
        try:
            await asyncio.sleep(_LINGER_SECONDS)
        finally:
            await self._free(versions)
            log.info(
                "model is freed",
                extra={"model": versions[0].name, "versions": [served.version for served in versions]},
            )

    async def _free(self, versions: list[Served]) -> None:
        """Finish what these versions took on, then give their memory back."""
        if versions:
            await asyncio.gather(*(served.lane.close() for served in versions))
            for served in versions:
                entry = self._entries.get(served.name)
                if entry is None or served.version not in entry.versions:
                    served.lane.meters.retire()
            await asyncio.get_running_loop().run_in_executor(self._loader, return_freed_memory)

    def _count_load(self, entry: ModelEntry, outcome: str) -> None:
        self._metrics.counter(
            "model_server_model_loads_total",
            "Loads of a model, by outcome.",
            {"model": entry.settings.name, "outcome": outcome},
        ).add()

    def _changed(self, entry: ModelEntry) -> None:
        name = entry.settings.name
        ready = self._metrics.gauge(
            "model_server_model_ready", "Workers in which the model can answer.", {"model": name}
        )
        ready.set(float(entry.default is not None))
        refused = self._metrics.gauge(
            "model_server_model_change_refused",
            "Workers in which an older version goes on serving because a newer one was refused.",
            {"model": name},
        )
        refused.set(float(entry.default is not None and bool(entry.reason)))
        for callback in self.on_change:
            callback(name)


def _lower_priority() -> None:
    """Threads that load or compute for long yield to the event loop when CPUs are scarce."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _BACKGROUND_NICENESS)
    except OSError:
        log.debug("thread priority cannot be lowered")
