"""The provider's side of Pulumi's plugin protocol: translation, and errors in the form the engine knows."""

import functools
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import grpc
import yaml
from google.protobuf import any_pb2, empty_pb2, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2_grpc, status_pb2
from pulumi.runtime.proto import provider_pb2 as pb

from . import check, kubeconfig
from .api import Api
from .differences import differences, forces_replacement, text, without
from .engine import Engine
from .errors import NotReady, ProviderError, Unreachable
from .kinds import Kinds, Made
from .objects import (
    AUTONAMED,
    INPUTS,
    REPLACE_UNREADY,
    at,
    checkpoint,
    field_manager,
    identity,
    is_true,
    live_part,
    masked,
    name_of,
    namespace_of,
    split_identity,
    with_default_kind,
)
from .settings import Settings, faults, settings
from .values import UNKNOWN, Mask, has_unknown, joined, mask, plain, struct

Method = TypeVar("Method", bound=Callable[..., Any])


def told(method: Method) -> Method:
    """Turn an error of ours into the answer that the engine shows as it is."""

    @functools.wraps(method)
    def wrapped(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except ProviderError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))

    return wrapped  # type: ignore[return-value]


class KubernetesServicer(provider_pb2_grpc.ResourceProviderServicer):
    """One configured provider. Every method may run in many threads at a time."""

    def __init__(self, engine: Engine) -> None:
        self.cancelled = threading.Event()
        self._engine = engine
        self._settings = Settings()
        self._kinds: Kinds | None = None
        self._namespace = "default"
        self._fault: Unreachable | None = None

    # The provider itself

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.engine_address:
            self._engine.attach(request.engine_address)
        return pb.ProviderHandshakeResponse(
            accept_secrets=True,
            accept_resources=False,
            accept_outputs=False,
            supports_autonaming_configuration=True,
        )

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._engine.attach(request.address)
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version=_version())

    def GetSchema(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetSchemaResponse(schema=json.dumps({"name": "kubernetes", "version": _version()}))

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        failures = [
            pb.CheckFailure(property=field, reason=reason) for field, reason in faults(plain(request.news))
        ]
        return pb.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        old, new = plain(request.old_inputs) or plain(request.olds), plain(request.news)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        return pb.DiffResponse(
            changes=pb.DiffResponse.DIFF_SOME if changed else pb.DiffResponse.DIFF_NONE,
            diffs=changed,
            # Another cluster has none of our objects: all of them are made anew there.
            replaces=[key for key in changed if _another_cluster(key, old, new)],
        )

    @told
    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        given = plain(request.args) or {
            key.removeprefix("kubernetes:config:"): value for key, value in request.variables.items()
        }
        self._settings = settings(given)
        try:
            cluster = kubeconfig.find(
                self._settings.kubeconfig, self._settings.context, self._settings.cluster
            )
        except Unreachable as error:  # told when a cluster is needed: a preview may do without
            self._fault = error
        else:
            self._namespace = self._settings.namespace or cluster.namespace
            self._kinds = Kinds(Api(cluster, self.cancelled), self._engine, self._settings)
        return pb.ConfigureResponse(
            acceptSecrets=True,
            supportsPreview=True,
            acceptResources=False,
            acceptOutputs=False,
            supports_autonaming_configuration=True,
        )

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.cancelled.set()
        return empty_pb2.Empty()

    def _cluster(self) -> Kinds:
        if self._kinds is None:
            raise self._fault or Unreachable("the provider was not configured")
        return self._kinds

    # Resources

    @told
    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        if reason := check.unsupported(request.urn):
            raise ProviderError(reason)
        news, old = plain(request.news), plain(request.olds)
        found = check.faults(news, request.urn)
        proposed = None
        if request.HasField("autonaming"):
            options = pb.CheckRequest.AutonamingOptions
            if request.autonaming.mode == options.DISABLE and not at(news, "metadata", "name"):
                found.append(("metadata.name", "is needed: automatic names are turned off for this stack"))
            proposed = request.autonaming.proposed_name or None
        if found:
            return pb.CheckResponse(
                inputs=request.news,
                failures=[pb.CheckFailure(property=field, reason=reason) for field, reason in found],
            )
        inputs = check.named(news, old, request.urn, request.randomSeed, proposed)
        self._default_namespace(inputs)
        secret = masked(str(inputs.get("kind")), mask(request.news))
        secret.pop(INPUTS, None)
        return pb.CheckResponse(inputs=struct(inputs, secret))

    def _default_namespace(self, inputs: dict[str, Any]) -> None:
        metadata = inputs.get("metadata")
        if not isinstance(metadata, dict) or metadata.get("namespace"):
            return
        # What nothing is known of is taken for namespaced, and put right when it is made.
        if self._kinds is None or self._kinds.namespaced(inputs, default=True):
            metadata["namespace"] = self._namespace

    @told
    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        state, new = plain(request.olds), with_default_kind(plain(request.news), request.urn)
        old = with_default_kind(plain(request.old_inputs) or at(state, INPUTS, default={}), request.urn)
        cluster_wide = self._kinds is not None and not self._kinds.namespaced(new, default=True)
        if cluster_wide:
            old, new = _without_namespace(old), _without_namespace(new)
        changes = without(differences(old, new), request.ignoreChanges)
        kinds = pb.PropertyDiff
        detailed, replaces = {}, []
        for path, change in changes:
            if forces_replacement(
                path,
                change,
                new,
                mutable_config_maps=self._settings.mutable_config_maps,
                mutable_secrets=self._settings.mutable_secrets,
            ):
                replaces.append(text(path))
            word = change.upper() + ("_REPLACE" if text(path) in replaces else "")
            detailed[text(path)] = kinds(kind=kinds.Kind.Value(word), inputDiff=True)
        if (
            is_true(new, REPLACE_UNREADY)
            and self._kinds is not None
            and self._kinds.unready_job(live_part(state))
        ):
            replaces.append(f'metadata.annotations["{REPLACE_UNREADY}"]')
        if changes and not replaces and not has_unknown(new) and self._kinds is not None:
            manager = field_manager(request.urn, new, state)
            if self._kinds.changes_nothing(new, live_part(state), manager):
                detailed = {}
        fixed_name = (
            name_of(new) == name_of(state)
            and not is_true(new, AUTONAMED)
            and (cluster_wide or namespace_of(new) == namespace_of(state))
        )
        return pb.DiffResponse(
            changes=pb.DiffResponse.DIFF_SOME if detailed or replaces else pb.DiffResponse.DIFF_NONE,
            replaces=replaces,
            deleteBeforeReplace=bool(replaces) and fixed_name,
            detailedDiff=detailed,
            hasDetailedDiff=True,
        )

    @told
    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        inputs = with_default_kind(plain(request.properties), request.urn)
        secret = masked(str(inputs.get("kind")), mask(request.properties))
        if request.preview:
            if self._kinds is None:
                self._engine.warn(request.urn, f"not checked by a cluster: {self._fault}")
                return pb.CreateResponse(properties=request.properties)
            shown = self._kinds.preview_create(request.urn, inputs)
            return pb.CreateResponse(properties=struct(shown, secret))
        manager = field_manager(request.urn, inputs, {})
        made = self._cluster().create(request.urn, inputs, manager, request.timeout)
        return pb.CreateResponse(
            id=identity(made.live), properties=self._state(made, inputs, manager, {}, secret, context)
        )

    @told
    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        state, inputs = plain(request.olds), with_default_kind(plain(request.news), request.urn)
        secret = masked(str(inputs.get("kind")), mask(request.news))
        manager = field_manager(request.urn, inputs, state)
        if request.preview:
            if self._kinds is None:
                self._engine.warn(request.urn, f"not checked by a cluster: {self._fault}")
                return pb.UpdateResponse(properties=request.news)
            shown = self._kinds.preview_update(
                request.urn, inputs, live_part(state), manager, request.ignoreChanges
            )
            return pb.UpdateResponse(properties=struct(shown, secret))
        made = self._cluster().update(
            request.urn, inputs, live_part(state), manager, request.ignoreChanges, request.timeout
        )
        return pb.UpdateResponse(properties=self._state(made, inputs, manager, state, secret, context))

    def _state(
        self,
        made: Made,
        inputs: Mapping[str, Any],
        manager: str,
        state: Mapping[str, Any],
        secret: Mapping[str, Mask],
        context: grpc.ServicerContext,
    ) -> struct_pb2.Struct:
        """The state of an object that is in the cluster; where it is not ready, that is the answer's error.

        The engine then keeps the object and its state, and the next run tries again.
        """
        kept = struct(checkpoint(inputs, made.live, manager, state), secret)
        if made.fault is not None:
            where = f"{made.live.get('kind')} {identity(made.live)}"
            _abort_unready(context, identity(made.live), kept, where, made.fault)
        return kept

    @told
    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        state, old = plain(request.properties), plain(request.inputs)
        namespace, name = split_identity(request.id)
        known = with_default_kind(old or live_part(state), request.urn)
        try:
            found = self._cluster().read(known, namespace or namespace_of(state), name)
        except Unreachable as error:
            if self._settings.delete_unreachable:
                self._engine.warn(
                    request.urn, f"removed from the state, since nothing can be told of it: {error}"
                )
                return pb.ReadResponse()
            if self._settings.skip_unreachable:
                self._engine.warn(request.urn, f"kept as the state has it: {error}")
                return pb.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)
            raise
        if found is None:
            return pb.ReadResponse()
        manager = field_manager(request.urn, old, state)
        inputs = self._cluster().inputs_now(old, found, manager)
        secret = masked(str(found.get("kind")), joined(mask(request.properties), mask(request.inputs)))
        kept = struct(checkpoint(inputs, found, manager, state), secret)
        bare = {key: part for key, part in secret.items() if key != INPUTS}
        fault = self._cluster().fault(request.urn, found, inputs) if old else None
        if fault is not None:
            where = f"{found.get('kind')} {identity(found)}"
            _abort_unready(context, request.id, kept, where, fault, struct(inputs, bare))
        return pb.ReadResponse(id=identity(found), properties=kept, inputs=struct(inputs, bare))

    @told
    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        state = plain(request.properties)
        namespace, name = split_identity(request.id)
        known = with_default_kind(live_part(state), request.urn)
        try:
            self._cluster().delete(
                request.urn, known, at(state, INPUTS, default={}), namespace, name, request.timeout
            )
        except Unreachable as error:
            if not self._settings.delete_unreachable:
                raise Unreachable(
                    f"{error}. If the cluster is gone for good, run again with "
                    "PULUMI_K8S_DELETE_UNREACHABLE=true to remove its objects from the state"
                ) from error
            self._engine.warn(request.urn, f"removed from the state only: {error}")
        return empty_pb2.Empty()

    # Functions

    @told
    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.tok != "kubernetes:yaml:decode":
            raise ProviderError(f"the function {request.tok} is not here: only the official provider has it")
        args = plain(request.args)
        try:
            result = list(_objects(yaml.safe_load_all(str(args.get("text", "")))))
        except yaml.YAMLError as error:
            raise ProviderError(f"this is not YAML: {error}") from error
        if args.get("defaultNamespace"):
            for one in result:
                if self._cluster().namespaced(one, default=True) and not namespace_of(one):
                    one.setdefault("metadata", {})["namespace"] = args["defaultNamespace"]
        answer = pb.InvokeResponse()
        getattr(answer, "return").CopyFrom(struct({"result": result}))  # a word of Python's own
        return answer


def _objects(documents: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for document in documents:
        if (
            isinstance(document, dict)
            and str(document.get("kind", "")).endswith("List")
            and "items" in document
        ):
            yield from _objects(document["items"])
        elif isinstance(document, dict):
            yield json.loads(json.dumps(document, default=str))
        elif document is not None:
            raise ProviderError(f"a document is {type(document).__name__}, not a Kubernetes object")


def _without_namespace(value: Mapping[str, Any]) -> dict[str, Any]:
    metadata = value.get("metadata")
    if not isinstance(metadata, Mapping):
        return dict(value)
    return {**value, "metadata": {key: part for key, part in metadata.items() if key != "namespace"}}


def _another_cluster(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if "clusterIdentifier" in (*old, *new):
        return key == "clusterIdentifier"
    if key not in ("kubeconfig", "context", "cluster") or UNKNOWN in new.values():
        return False
    servers = [
        kubeconfig.server_of(each.get("kubeconfig"), each.get("context"), each.get("cluster"))
        for each in (old, new)
    ]
    return None not in servers and servers[0] != servers[1]


def _abort_unready(
    context: grpc.ServicerContext,
    identity: str,
    state: struct_pb2.Struct,
    where: str,
    fault: ProviderError,
    inputs: struct_pb2.Struct | None = None,
) -> None:
    reasons = fault.reasons if isinstance(fault, NotReady) else []
    message = f"{where} is in the cluster, but not ready: {fault}"
    detail = pb.ErrorResourceInitFailed(
        id=identity, properties=state, reasons=[message, *reasons], inputs=inputs
    )
    packed = any_pb2.Any()
    packed.Pack(detail)
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=message, details=[packed])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.UNKNOWN, message)


@functools.cache
def _version() -> str:
    try:
        return version("pulumi-kubernetes")
    except PackageNotFoundError:
        return "4.0.0"
