"""The one settings file: every field typed, with its unit, default and range.

A field is overridden from the environment by its path, in capitals, with two underscores between the parts:
`MODEL_SERVER__SERVER__HTTP_PORT=9000`. Values from the environment are read as YAML, so lists and objects
work too. Unknown keys are errors. `json_schema()` is the file's JSON Schema.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_server.errors import SettingsError

ENV_PREFIX = "MODEL_SERVER__"

Seconds = Annotated[float, Field(ge=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(_Section):
    """Where the server listens and how it stops."""

    host: str = Field(default="127.0.0.1", description="Address to bind. Loopback unless you open it.")
    http_port: Port = Field(default=8080, description="TCP port of HTTP; 0 takes a free one and logs it.")
    grpc_port: Port = Field(default=8081, description="TCP port of gRPC; 0 takes a free one and logs it.")
    workers: int = Field(
        default=1,
        ge=0,
        le=256,
        description="Processes that share the port; 0 means one for each CPU of the cgroup.",
    )
    drain_seconds: Seconds = Field(
        default=1.0,
        description="Seconds between SIGTERM and closing the socket: readiness is off, requests are still "
        "accepted, so that load balancers have time to look away.",
    )
    shutdown_seconds: Seconds = Field(
        default=30.0,
        description="Seconds that requests in flight have to finish after the drain, before they are cut.",
    )
    tells_answers: bool = Field(
        default=False,
        description="Tell whoever asks from the server's own machine (or pod), not through a proxy, what it "
        "answered to others: POST /v2/models/{model}/answers, for comparing versions.",
    )
    hung_worker_seconds: Seconds = Field(
        default=30.0,
        description="Seconds without a heartbeat after which a worker is killed and replaced; 0 is never.",
    )


class HttpSettings(_Section):
    """Limits that protect the HTTP server from its clients."""

    max_header_bytes: int = Field(
        default=32_768, ge=1024, description="Bytes of request line and headers; over: 431."
    )
    max_headers: int = Field(default=100, ge=8, description="Number of headers; over: 431.")
    max_body_bytes: int = Field(
        default=64 * 2**20, ge=1024, description="Bytes of a request's body; over: 413."
    )
    max_connections: int = Field(
        default=10_000, ge=1, description="Open connections of a worker; over: closed at once."
    )
    max_pipelined: int = Field(
        default=64, ge=1, description="Unanswered requests of a connection before reading stops."
    )
    header_timeout_seconds: Seconds = Field(
        default=10.0, description="From a request's first byte to its last header."
    )
    body_timeout_seconds: Seconds = Field(
        default=60.0, description="From the last header to the body's last byte."
    )
    idle_timeout_seconds: Seconds = Field(
        default=75.0, description="A kept-alive connection without a request."
    )
    write_timeout_seconds: Seconds = Field(
        default=30.0, description="A client that does not read its answer."
    )


class GrpcSettings(_Section):
    """The gRPC port, and limits that protect it from its clients."""

    enabled: bool = Field(default=True, description="Serve gRPC on server.grpc_port.")
    reflection: bool = Field(
        default=True, description="Tell clients such as grpcurl which services and messages there are."
    )
    max_message_bytes: int = Field(
        default=64 * 2**20,
        ge=1024,
        le=2**31 - 2**20,
        description="Bytes of a request message, unpacked; over: RESOURCE_EXHAUSTED.",
    )
    max_header_bytes: int = Field(
        default=32_768,
        ge=1024,
        description="Bytes of a call's headers and metadata; over: the call is reset.",
    )
    max_connections: int = Field(
        default=10_000, ge=1, description="Open connections of a worker; over: closed at once."
    )
    max_concurrent_calls: int = Field(
        default=1000, ge=1, description="Unanswered calls of a connection; clients hold back more."
    )
    max_resets_per_second: int = Field(
        default=10_000, ge=1, description="Calls of a connection that its client cancels; over: it is closed."
    )
    max_control_frames_per_second: int = Field(
        default=10_000,
        ge=1,
        description="Frames of a connection that carry nothing (empty data, priorities, settings, data for "
        "calls that are over); over: it is closed.",
    )
    header_timeout_seconds: Seconds = Field(
        default=10.0, description="From a connection's or header block's first byte to its last."
    )
    body_timeout_seconds: Seconds = Field(
        default=60.0,
        description="From a call's headers to its message's last byte; not for streams of messages.",
    )
    write_timeout_seconds: Seconds = Field(
        default=30.0, description="A client that does not read its answer."
    )
    keepalive_seconds: Seconds = Field(
        default=60.0,
        description="Silence after which a client is pinged, to notice that it is gone; 0 is never.",
    )
    keepalive_timeout_seconds: Seconds = Field(
        default=20.0, description="Time that a pinged client has before its connection is cut."
    )


class RegistrySettings(_Section):
    """The MLflow tracking server behind `models:/` and `runs:/` sources.

    Credentials come only from the environment: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD. MODEL_SERVER_WEBHOOK_SECRET, the secret of the registry's webhooks, opens
    POST /v2/repository/webhook.
    """

    tracking_uri: str | None = Field(
        default=None, description="http(s) address of the tracking server. Default: MLFLOW_TRACKING_URI."
    )
    timeout_seconds: Seconds = Field(
        default=30.0, description="Limit of one request to the registry or a store."
    )
    retry_seconds: Seconds = Field(
        default=20.0,
        description="How long a request to the registry or a store is repeated, with growing pauses, when it "
        "does not answer or answers that it cannot now; 0: no repetition.",
    )
    poll_seconds: Seconds = Field(
        default=15.0,
        description="Seconds between looks at what aliases, latest versions, URLs and folders of versions "
        "mean now, give or take a fifth; 0: only at start, on a load request and on a webhook.",
    )


class BatchingSettings(_Section):
    """How requests for a model are run together."""

    mode: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="auto: batch if a trial at load shows that stacked rows give the same answers as single "
        "ones; on: batch whenever the shapes can be stacked; off: one request a run.",
    )
    max_rows: int = Field(
        default=64, ge=1, description="Rows of one run. A larger single request still runs, alone."
    )
    window_ms: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Milliseconds that the first request may wait for company. 0: no wait, what arrived "
        "together runs together.",
    )


class VersionPolicy(_Section):
    """Which versions of a source are served at once; exactly one of the fields.

    A client that names no version gets: of `latest`, the highest; of `specific`, the first of the list; of
    `alias`, the version that has it.
    """

    latest: int | None = Field(default=None, ge=1, le=32, description="The N versions of highest number.")
    specific: list[Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]] | None = Field(
        default=None, min_length=1, max_length=32, description="These versions."
    )
    alias: str | None = Field(
        default=None, pattern=r"^[^/@]{1,255}$", description="The version that has this alias."
    )

    @model_validator(mode="after")
    def _one_rule(self) -> "VersionPolicy":
        if sum(rule is not None for rule in (self.latest, self.specific, self.alias)) != 1:
            raise ValueError("give exactly one of latest, specific, alias")
        return self


class FallbackRung(_Section):
    """One step of the degradation ladder: exactly one of these fields, `version` aside."""

    model: str | None = Field(
        default=None, description="Another model of this server, such as a smaller or a quantised one."
    )
    version: str | None = Field(default=None, description="Version of that model. Default: its default one.")
    previous_version: bool = Field(
        default=False,
        description="The version before the one that was asked for; it stays loaded when a newer one comes.",
    )
    cached_seconds: float | None = Field(
        default=None,
        gt=0,
        description="The answer to an equal request, if it is no older (seconds). Needs the model's `cache`.",
    )
    value: dict[str, Any] | None = Field(
        default=None,
        description="A static answer: output name -> data, nested like the output's shape; where the output "
        "has a row for each row of the input, the data of one row.",
    )

    @property
    def name(self) -> str:
        """As the header X-Degraded and the metrics call it."""
        if self.model is not None:
            return "model"
        if self.previous_version:
            return "previous-version"
        return "static" if self.cached_seconds is None else "cached"

    @model_validator(mode="after")
    def _is_one_thing(self) -> "FallbackRung":
        said = [self.model is not None, self.previous_version, self.cached_seconds is not None]
        if sum(said) + (self.value is not None) != 1:
            raise ValueError("give exactly one of model, previous_version, cached_seconds and value")
        if self.version is not None and self.model is None:
            raise ValueError("version belongs to model; for the version before, say previous_version: true")
        return self


class FallbackSettings(_Section):
    """What answers when the model does not. Every such answer says so in its header X-Degraded."""

    rungs: list[FallbackRung] = Field(default_factory=list, description="Tried in this order.")
    on: list[Literal["timeout", "overload", "breaker", "failure"]] = Field(
        default=["timeout", "overload", "breaker", "failure"],
        description="Why the ladder is climbed down. Faults of the request never are a reason.",
    )
    reserve: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the time that a request has left that each attempt leaves to the rungs below.",
    )

    @model_validator(mode="after")
    def _a_value_is_last(self) -> "FallbackSettings":
        if any(rung.value is not None for rung in self.rungs[:-1]):
            raise ValueError("rungs: a static value always answers, so nothing comes after it; put it last")
        return self


class CacheSettings(_Section):
    """Answers are kept and equal requests that meet are run once. Each worker has a cache of its own."""

    ttl_seconds: Seconds = Field(
        default=60.0,
        description="Age up to which an answer is given again; 0: only to the `cached_seconds` rung.",
    )
    max_entries: int = Field(default=10_000, ge=1, description="Answers of one worker.")
    max_bytes: int = Field(default=64 * 2**20, ge=1024, description="Bytes of one worker's answers.")


class BreakerSettings(_Section):
    """The circuit breaker of each version of a model; each worker counts for itself."""

    window_seconds: float = Field(default=10.0, gt=0, description="Seconds over which calls are counted.")
    failure_rate: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share of failures and time-outs that opens it. A time-out counts if the model had at "
        "least slo_ms.",
    )
    min_calls: int = Field(default=20, ge=1, description="Calls in the window before it may open.")
    open_seconds: float = Field(default=5.0, gt=0, description="Seconds until probes are let through.")
    probes: int = Field(
        default=3, ge=1, description="Probes at a time, and how many must succeed to close it."
    )


class BudgetSettings(_Section):
    """Shares of slo_ms in the latency budget header. Default: 5, 10, 20 and 5 % of it; the rest is spare."""

    network_ms: float | None = Field(default=None, ge=0, description="Milliseconds from the client to us.")
    features_ms: float | None = Field(default=None, ge=0, description="Milliseconds to make tensors.")
    inference_ms: float | None = Field(default=None, ge=0, description="Milliseconds of the model's run.")
    post_processing_ms: float | None = Field(default=None, ge=0, description="Milliseconds to answer.")

    def shares(self, slo_ms: float) -> "BudgetShares":
        """Milliseconds of each phase for this objective."""
        network, features, inference, post = (
            slo_ms * share if ms is None else ms
            for ms, share in (
                (self.network_ms, 0.05),
                (self.features_ms, 0.10),
                (self.inference_ms, 0.20),
                (self.post_processing_ms, 0.05),
            )
        )
        return BudgetShares(
            network, features, inference, post, slo_ms - network - features - inference - post
        )


class BudgetShares(NamedTuple):
    """Milliseconds of each phase."""

    network_ms: float
    features_ms: float
    inference_ms: float
    post_processing_ms: float
    reserve_ms: float


class ModelSettings(_Section):
    """One model to serve."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="Name in URLs and metrics.")
    source: str = Field(
        min_length=1,
        description="Where it comes from: a path or file: URI; models:/name/version, models:/name@alias, "
        "models:/name (see versions) or models:/m-<id> from the registry; runs:/id/path; the http(s) address "
        "of a model file or of a .zip, .tar, .tar.gz or .tgz; s3://bucket/prefix; gs://bucket/prefix.",
    )
    versions: VersionPolicy | None = Field(
        default=None,
        description="Versions to serve of models:/name, or of a folder with subfolders 1, 2, 3, … "
        "Default: the latest of models:/name; a folder is one model.",
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 that the model must have, in hex: of the file, of the downloaded archive, or of "
        "the whole folder as this server logs it. A version's tag sha256 in the registry is checked too.",
    )
    allow_pickle: bool = Field(
        default=False,
        description="Load this model even though loading it runs code from its files: pickle-based MLflow "
        "flavours (scikit-learn, Python functions, PyTorch). Only for models whose authors you trust as you "
        "trust this server's own code.",
    )
    allow_signature_change: bool = Field(
        default=False,
        description="Let a new version replace a serving one although its inputs or outputs have other "
        "names, datatypes or shapes.",
    )
    version: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description='Version to show for a source that has none of its own. Default: "1".',
    )
    batching: BatchingSettings = Field(default=BatchingSettings())
    concurrency: int = Field(
        default=1, ge=1, le=64, description="Runs of this model at the same time, in threads."
    )
    queue_size: int = Field(
        default=1024, ge=1, description="Requests that may wait; over: 429 with Retry-After."
    )
    timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Longest time from arrival to answer; a client's X-Request-Timeout can shorten it.",
    )
    threads: int = Field(
        default=0, ge=0, description="Threads of one run; 0: the CPUs of the cgroup, shared by workers."
    )
    execution_providers: list[str] = Field(
        default_factory=list, description="ONNX Runtime providers, in order. Default: CPUExecutionProvider."
    )
    warmup_runs: int = Field(default=5, ge=0, description="Runs with made-up rows before the model is ready.")
    class_labels: list[str] = Field(
        default_factory=list,
        description="Names of the classes by index, shown by /predict and :classify. Default: `class_labels` "
        "of the metadata in the MLflow model, else the indices.",
    )
    slo_ms: float = Field(
        default=100.0, gt=0, description="Latency objective, for the latency budget header."
    )
    budget: BudgetSettings = Field(default=BudgetSettings())
    fallback: FallbackSettings = Field(default=FallbackSettings())
    cache: CacheSettings | None = Field(default=None, description="Response cache. Default: none.")
    breaker: BreakerSettings | None = Field(default=None, description="Circuit breaker. Default: none.")

    @model_validator(mode="after")
    def _parts_agree(self) -> "ModelSettings":
        rungs = self.fallback.rungs
        if self.cache is None and any(rung.cached_seconds is not None for rung in rungs):
            raise ValueError("fallback: cached_seconds needs the model's cache; add cache: {ttl_seconds: 0}")
        if any(rung.model == self.name and rung.version is None for rung in rungs):
            raise ValueError("fallback: a model cannot stand in for itself; name another, or a version")
        if self.budget.shares(self.slo_ms).reserve_ms < 0:
            raise ValueError(f"budget: the phases take more than slo_ms, which is {self.slo_ms:g}")
        return self

    @model_validator(mode="after")
    def _one_digest_one_version(self) -> "ModelSettings":
        policy = self.versions
        if self.sha256 and policy and (policy.specific is None or len(policy.specific) > 1):
            raise ValueError(
                "sha256 is of one version: use it with a source that names one, or tag the versions in the "
                "registry with sha256"
            )
        return self


class LogSettings(_Section):
    """Logs go to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity shown."
    )
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text on a terminal, else JSON."
    )
    access: bool = Field(
        default=False,
        description="One line for each HTTP request. Faults of the server are logged anyway; gRPC calls are "
        "counted in metrics.",
    )


class TracingSettings(_Section):
    """OpenTelemetry traces. Needs the extra: pip install 'model-server[otel]'.

    Everything else is said by the standard environment variables: OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and their like.
    """

    enabled: bool = Field(default=False, description="Make spans and export them over OTLP.")


class ObserverSettings(_Section):
    """Who sees calls after they are answered: payload capture, drift statistics."""

    use: str = Field(
        min_length=1,
        description="Entry point of the group model_server.observers, or package.module:factory.",
    )
    models: list[str] = Field(default_factory=list, description="Models to look at. Default: all.")
    sample: float = Field(default=1.0, gt=0, le=1, description="Share of the calls.")
    queue_size: int = Field(default=1000, ge=1, description="Calls that may wait; more are dropped.")
    queue_bytes: int = Field(
        default=64 * 2**20, ge=1024, description="Bytes of tensors that may wait; more are dropped."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Handed to the factory as they are.")


class PredictionSettings(_Section):
    """Count what is predicted, in `model_server_predictions_total`: by it one sees predictions drift."""

    sample: float = Field(default=0.1, gt=0, le=1, description="Share of the calls that is looked at.")


class Settings(_Section):
    """The whole settings file."""

    server: ServerSettings = Field(default=ServerSettings())
    http: HttpSettings = Field(default=HttpSettings())
    grpc: GrpcSettings = Field(default=GrpcSettings())
    registry: RegistrySettings = Field(default=RegistrySettings())
    log: LogSettings = Field(default=LogSettings())
    tracing: TracingSettings = Field(default=TracingSettings())
    observers: list[ObserverSettings] = Field(
        default_factory=list, description="Who sees calls after they are answered."
    )
    predictions: PredictionSettings | None = Field(
        default=None, description="Count what is predicted. Default: no."
    )
    models: list[ModelSettings] = Field(default_factory=list, description="The models to serve.")
    default_model: str | None = Field(
        default=None,
        description="Who answers on routes that name no model (/invocations, /predict), unless a client's "
        "X-Model-Name header says otherwise. Default: the only model.",
    )
    cache_dir: Path | None = Field(
        default=None,
        description="Folder of downloaded models. Default: model-server in $XDG_CACHE_HOME or ~/.cache.",
    )
    cache_max_gb: float = Field(
        default=20.0,
        gt=0,
        description="Gigabytes of downloaded models; over: those unused for longest go, never one in use.",
    )
    start_requires: Literal["all", "any", "none"] = Field(
        default="any",
        description="Models that must load at start, or the process exits with an error: all, at least one, "
        "or none. Readiness is false in any case while a declared model cannot answer.",
    )
    inline_ms: float = Field(
        default=2.0,
        ge=0,
        le=100,
        description="A run that is known to take no longer than this (milliseconds) runs on the event loop; "
        "longer ones run in a thread, so that they delay nobody else.",
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Settings":
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"models: the name {twice[0]!r} is used more than once; give each model its own")
        if self.default_model is not None and self.default_model not in names:
            raise ValueError(
                f"default_model: {self.default_model!r} is not among the models; they are {names}"
            )
        return self

    @model_validator(mode="after")
    def _named_models_exist(self) -> "Settings":
        names = {model.name for model in self.models}
        asked = [(f"model {m.name!r}: fallback", r.model) for m in self.models for r in m.fallback.rungs]
        asked += [
            (f"observers: {observer.use!r}", name) for observer in self.observers for name in observer.models
        ]
        for where, name in asked:
            if name is not None and name not in names:
                raise ValueError(f"{where}: no model {name!r} is declared here")
        return self


def load_settings(path: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the file (none: all defaults), apply the environment, validate.

    Raises SettingsError, whose message has one line a fault.
    """
    environ = os.environ if environ is None else environ
    document: Any = {}
    if path is not None:
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not YAML: {error}") from error
        if not isinstance(document, dict):
            raise SettingsError(f"{path}: expected a mapping of settings, got {type(document).__name__}")
    _apply_environment(document, environ)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        where = f"{path}: " if path else ""
        raise SettingsError("\n".join(where + _explain(fault) for fault in error.errors())) from error


def json_schema() -> dict[str, Any]:
    """JSON Schema of the settings file."""
    schema = Settings.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _apply_environment(document: dict[str, Any], environ: Mapping[str, str]) -> None:
    for key in sorted(environ):
        if not key.startswith(ENV_PREFIX):
            continue
        *sections, last = key.removeprefix(ENV_PREFIX).lower().split("__")
        place = document
        for section in sections:
            child = place.get(section)
            if child is None:
                child = place[section] = {}
            if not isinstance(child, dict):
                raise SettingsError(f"{key}: {section!r} is not a section with fields of its own")
            place = child
        try:
            place[last] = yaml.safe_load(environ[key])
        except yaml.YAMLError as error:
            raise SettingsError(f"{key}: the value is not YAML: {error}") from error


def _explain(fault: Any) -> str:
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        return f"{path}: {fault['msg']}" if path else str(fault["msg"])
    known = _fields_at(fault["loc"][:-1])
    near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"{path}: unknown setting; {hint}"


def _fields_at(location: tuple[str | int, ...]) -> list[str]:
    section: type[BaseModel] = Settings
    for part in location:
        if isinstance(part, int):
            continue
        annotation: Any = section.model_fields[part].annotation
        inner = getattr(annotation, "__args__", (annotation,))[0]
        section = inner
    return sorted(section.model_fields)
