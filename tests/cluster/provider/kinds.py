"""The life of an object in a cluster: made, changed, read, removed, and tried out for a preview."""

import copy
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .api import APPLY, Answer, Api, Resource
from .differences import parsed
from .engine import Engine
from .errors import ApiError, NoSuchKind, ProviderError, Unreachable
from .objects import (
    PATCH_FORCE,
    PROPAGATION,
    SKIP_AWAIT,
    annotation,
    at,
    identity,
    is_true,
    name_of,
    namespace_of,
    previewed,
    without_servers_own,
)
from .readiness import custom_rule, readiness
from .refresh import ignoring, observed, pruned, same
from .settings import Settings
from .values import has_unknown
from .waiting import Waiter, patience

Object = dict[str, Any]
Inputs = Mapping[str, Any]

NOT_YET_SECONDS = 10.0
"""How long a missing namespace or definition is waited for: the same run may just have made it."""
# Who changes objects by hand. Their changes are undone, as the official provider does; any other owner of a
# field that we set is a conflict for the user to settle.
BY_HAND = ("kubectl", "before-first-apply", "pulumi-kubernetes", "pulumi-resource-kubernetes")
# Kinds that, marked not to be waited for, are not waited for when they go, either.
GONE_WITHOUT_WAIT = {
    "Namespace",
    "Pod",
    "ReplicationController",
    "DaemonSet",
    "Deployment",
    "StatefulSet",
    "Job",
}


@dataclass(frozen=True)
class Made:
    """An object that is in the cluster, and what is wrong with it, if anything."""

    live: Object
    fault: ProviderError | None = None


class Kinds:
    """All kinds of one cluster."""

    def __init__(self, api: Api, engine: Engine, settings: Settings) -> None:
        self.api, self._engine, self._settings = api, engine, settings

    def namespaced(self, inputs: Inputs, *, default: bool) -> bool:
        """Whether objects of this kind are in a namespace; the default where the cluster cannot tell."""
        version, kind = inputs.get("apiVersion"), inputs.get("kind")
        if not isinstance(version, str) or not isinstance(kind, str):
            return default
        try:
            return self.api.resource(version, kind).namespaced
        except (NoSuchKind, ApiError, Unreachable):
            return default

    # Making

    def create(self, urn: str, inputs: Inputs, manager: str, timeout: float) -> Made:
        """Make an object, and wait until it is ready.

        Raises `ApiError`, `NoSuchKind` or `Unreachable` where it was not made.
        """
        seconds = patience(timeout, inputs)
        custom_rule(inputs)  # told before anything is made
        resource = self.api.resource_soon(str(inputs["apiVersion"]), str(inputs["kind"]), NOT_YET_SECONDS)
        body = _scoped(inputs, resource)
        if not self._settings.upsert:
            self._must_be_new(resource, body)
        force = self._forced(body) or self._settings.upsert
        deadline = time.monotonic() + NOT_YET_SECONDS
        pause = 0.2
        while True:
            try:
                live = self._apply(urn, resource, body, manager, force=force)
                break
            except ApiError as error:
                soon = error.namespace_missing or "error looking up service account" in error.message
                if not soon or time.monotonic() + pause > deadline:
                    raise
                self._engine.status(urn, f"waiting: {error.message}")
                self.api.pause(pause)
                pause = min(pause * 2, 2)
        return self._ready(urn, resource, body, live, seconds)

    def _must_be_new(self, resource: Resource, body: Inputs) -> None:
        try:
            there = self.api.get(resource.path(namespace_of(body), name_of(body)))
        except ApiError as error:
            if error.code != 404:
                raise
            return
        if at(there, "metadata", "deletionTimestamp"):
            raise ProviderError(
                f"{resource.kind} {identity(body)} is still being deleted: run again when it is gone"
            )
        raise ProviderError(
            f"{resource.kind} {identity(body)} exists already, and this stack did not make it. Import it "
            "with `pulumi import`, give this one another name, or let the provider take over what it "
            "finds with `upsert_existing_objects`"
        )

    def update(
        self,
        urn: str,
        inputs: Inputs,
        old: Inputs,
        manager: str,
        ignored: Iterable[str],
        timeout: float,
    ) -> Made:
        """Change an object, and wait until it is ready again. Raises what `create` raises."""
        seconds = patience(timeout, inputs)
        custom_rule(inputs)
        resource = self.api.resource(str(inputs["apiVersion"]), str(inputs["kind"]))
        body, _ = self._for_update(resource, inputs, old, manager, ignored)
        live = self._apply(urn, resource, body, manager, force=self._forced(body))
        return self._ready(urn, resource, body, live, seconds)

    def _for_update(
        self, resource: Resource, inputs: Inputs, old: Inputs, manager: str, ignored: Iterable[str]
    ) -> tuple[Object, Object]:
        body = copy.deepcopy(_scoped(inputs, resource))
        if not namespace_of(body) and namespace_of(old) and resource.namespaced:
            body["metadata"]["namespace"] = namespace_of(old)
        try:
            live = self.api.get(resource.path(namespace_of(body), name_of(body)))
        except ApiError as error:
            if error.code != 404:
                raise
            raise ProviderError(
                f"{resource.kind} {identity(body)} is not in the cluster any more: somebody deleted it. Run "
                "`pulumi refresh` (or `pulumi up --refresh`), and it is made again"
            ) from error
        ignoring(body, live, [parsed(path) for path in ignored], manager)
        return body, live

    def _ready(self, urn: str, resource: Resource, body: Object, live: Object, seconds: float) -> Made:
        waiter = Waiter(self.api, self._engine, urn, resource, live)
        try:
            if not is_true(body, SKIP_AWAIT):
                waiter.until_ready(seconds)
        except ProviderError as error:
            return Made(waiter.live, error)
        if resource.kind == "CustomResourceDefinition":
            self.api.forget(str(at(body, "spec", "group", default="")))
        return Made(waiter.live)

    # Requests

    def _forced(self, body: Inputs) -> bool:
        return self._settings.patch_force or is_true(body, PATCH_FORCE)

    def _apply(
        self, urn: str, resource: Resource, body: Inputs, manager: str, *, force: bool, dry: bool = False
    ) -> Object:
        """Server-side apply. What somebody changed by hand is taken back; other owners' fields are not."""
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": str(force).lower()}
        if dry:
            query["dryRun"] = "All"
        path = resource.path(namespace_of(body), name_of(body))
        try:
            answer = self.api.request("PATCH", path, query, body, APPLY)
        except ApiError as error:
            if error.code != 409 or not error.causes:
                raise self._explained(error, resource, body) from error
            owners = _owners(error)
            if not owners or any(not owner.startswith(BY_HAND) for owner in owners):
                raise _conflict(error, resource, body) from error
            answer = self.api.request("PATCH", path, {**query, "force": "true"}, body, APPLY)
        self._warn(urn, answer)
        return answer.body

    def _warn(self, urn: str, answer: Answer) -> None:
        for warning in answer.warnings:
            self._engine.warn(urn, warning)

    def _explained(self, error: ApiError, resource: Resource, body: Inputs) -> ApiError:
        """The refusal with the object that it is about, where the API server does not name it."""
        if name_of(body) in error.message:
            return error
        words = f"{resource.kind} {identity(body)}: {error.message}"
        return ApiError(
            error.code, {"message": words, "reason": error.reason, "details": dict(error.details)}
        )

    # Previews

    def preview_create(self, urn: str, inputs: Inputs) -> Object:
        """What making the object would give, from a dry run; the inputs as they are where none is possible.

        Raises `ApiError` for an object that the API server would refuse.
        """
        try:
            resource = self._previewable(inputs)
            if resource is None:
                return dict(inputs)
            body = _scoped(inputs, resource)
            try:
                live = self._dry_create(urn, resource, body)
            except ApiError as error:
                if error.reason == "AlreadyExists":  # it is about to be replaced; or the real run will tell
                    other = {**body, "metadata": {**body["metadata"], "name": _other_name(name_of(body))}}
                    live = self._dry_create(urn, resource, other)
                    live["metadata"]["name"] = name_of(body)
                elif error.namespace_missing:
                    # The same run is going to make it; what the object says can be checked elsewhere.
                    elsewhere = {**body, "metadata": {**body["metadata"], "namespace": "default"}}
                    self._dry_create(urn, resource, elsewhere)
                    return dict(inputs)
                else:
                    raise
        except ApiError as error:
            self._tolerated(urn, error)
            return dict(inputs)
        except Unreachable as error:
            self._engine.warn(urn, f"not checked by a cluster: {error}")
            return dict(inputs)
        return previewed(live)

    def _dry_create(self, urn: str, resource: Resource, body: Inputs) -> Object:
        query = {"fieldManager": "pulumi-kubernetes", "fieldValidation": "Strict", "dryRun": "All"}
        path = resource.path(namespace_of(body))
        try:
            answer = self.api.request("POST", path, query, body)
        except ApiError as error:
            if not (resource.custom and "strict decoding error" in error.message):
                raise self._explained(error, resource, body) from error
            # The definition may be about to change in the same run.
            answer = self.api.request("POST", path, {**query, "fieldValidation": "Warn"}, body)
        self._warn(urn, answer)
        return answer.body

    def _previewable(self, inputs: Inputs) -> Resource | None:
        if has_unknown(dict(inputs)):
            return None
        try:
            return self.api.resource(str(inputs["apiVersion"]), str(inputs["kind"]))
        except NoSuchKind:
            return None

    def _tolerated(self, urn: str, error: ApiError) -> None:
        """Pass over what says nothing about the object itself; raise everything else."""
        message = error.message
        may_not = error.code in (403, 404, 409)
        unsupported = "does not support dry run" in message or "failed calling webhook" in message
        if not (may_not or unsupported):
            raise error
        self._engine.warn(urn, f"not checked by the cluster: {message}")

    def preview_update(
        self, urn: str, inputs: Inputs, old: Inputs, manager: str, ignored: Iterable[str]
    ) -> Object:
        """What changing the object would give. Raises `ApiError` for a change that would be refused."""
        try:
            resource = self._previewable(inputs)
            if resource is None:
                return dict(inputs)
            body, _ = self._for_update(resource, inputs, old, manager, ignored)
            live = self._apply(urn, resource, body, manager, force=self._forced(body), dry=True)
        except ApiError as error:
            if error.code != 403:
                raise
            self._engine.warn(urn, f"not checked by the cluster: {error.message}")
            return dict(inputs)
        except Unreachable as error:
            self._engine.warn(urn, f"not checked by a cluster: {error}")
            return dict(inputs)
        return previewed(live)

    def changes_nothing(self, inputs: Inputs, old: Inputs, manager: str) -> bool:
        """Whether applying the inputs would leave the live object as it is: the same in other words."""
        try:
            resource = self.api.resource(str(inputs["apiVersion"]), str(inputs["kind"]))
            body, live = self._for_update(resource, inputs, old, manager, ())
            dry = self._apply("", resource, body, manager, force=True, dry=True)
        except ProviderError:
            return False
        return same(live, dry, manager)

    # Reading

    def read(self, known: Inputs, namespace: str, name: str) -> Object | None:
        """The live object, or `None` where it, or its kind, is gone."""
        try:
            resource = self.api.resource(str(known["apiVersion"]), str(known["kind"]))
            return self.api.get(resource.path(namespace or "default", name))
        except NoSuchKind:
            return None
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    def inputs_now(self, inputs: Inputs, live: Object, manager: str) -> Object:
        """The inputs as the cluster now has them; without inputs, what somebody may have written.

        A field that somebody changed has its new value, one that somebody removed is missing.
        """
        if not inputs:
            return without_servers_own(live)
        if pruned(live, inputs) == inputs:
            return dict(inputs)
        try:
            resource = self.api.resource(str(live["apiVersion"]), str(live["kind"]))
            body = _scoped(inputs, resource)
            applied = self._apply("", resource, body, manager, force=True, dry=True)
        except ProviderError:
            return dict(pruned(live, inputs))
        return observed(inputs, live, applied)

    def fault(self, urn: str, live: Object, inputs: Inputs) -> ProviderError | None:
        """What keeps a live object from being ready at this moment."""
        if is_true(inputs, SKIP_AWAIT):
            return None
        resource = self.api.resource(str(live["apiVersion"]), str(live["kind"]))
        try:
            return Waiter(self.api, self._engine, urn, resource, live).fault()
        except ApiError as error:
            return error

    def unready_job(self, old: Inputs) -> bool:
        """Whether a Job that should be replaced while it is not ready is so."""
        if old.get("kind") != "Job":
            return False
        try:
            live = self.read(old, namespace_of(old), name_of(old))
        except ProviderError:
            return False
        return live is not None and readiness(live) is not None

    # Removing

    def delete(
        self, urn: str, known: Inputs, inputs: Inputs, namespace: str, name: str, timeout: float
    ) -> None:
        """Delete an object with what belongs to it, and wait until it is gone; gone already is fine.

        Raises `NotReady` when it is still there after the time that is given.
        """
        try:
            resource = self.api.resource(str(known["apiVersion"]), str(known["kind"]))
        except NoSuchKind:
            return
        path = resource.path(namespace or "default", name)
        policy = annotation(inputs, PROPAGATION).capitalize() or "Foreground"
        try:
            there = self.api.request("DELETE", path, None, {"propagationPolicy": policy}).body
        except ApiError as error:
            if error.code == 404:
                return
            if error.code != 409:
                raise
            there = self.api.get(path)
        if is_true(inputs, SKIP_AWAIT) and resource.kind in GONE_WITHOUT_WAIT:
            return
        if there.get("kind") == "Status":  # removed at once
            there = {**known, "metadata": {**at(known, "metadata", default={}), "name": name}}
            uid = at(known, "metadata", "uid")
        else:
            uid = at(there, "metadata", "uid")
        there["metadata"] |= {"uid": uid, "name": name, "namespace": namespace}
        Waiter(self.api, self._engine, urn, resource, there).until_gone(patience(timeout, inputs))
        if resource.kind == "CustomResourceDefinition":
            self.api.forget(str(at(known, "spec", "group", default="")))


def _scoped(inputs: Inputs, resource: Resource) -> Object:
    """The object with a namespace only where its kind has one."""
    metadata = dict(at(inputs, "metadata", default={}))
    if not resource.namespaced:
        metadata.pop("namespace", None)
    elif not metadata.get("namespace"):
        metadata["namespace"] = "default"
    return {**inputs, "metadata": metadata}


def _other_name(name: str) -> str:
    return f"{name[:40].rstrip('-.')}-preview"


def _owners(error: ApiError) -> set[str]:
    found = [re.match(r'conflict with "([^"]+)"', str(cause.get("message"))) for cause in error.causes]
    return {match[1] if match else "somebody" for match in found}


def _conflict(error: ApiError, resource: Resource, body: Inputs) -> ProviderError:
    fields = ", ".join(
        str(cause.get("field")).lstrip(".") + f" ({str(cause.get('message')).removeprefix('conflict with ')})"
        for cause in error.causes
    )
    return ProviderError(
        f"{resource.kind} {identity(body)} has fields that others own: {fields}. Leave them to their owner "
        f'with `ignore_changes`, or take them with the annotation `{PATCH_FORCE}: "true"`'
    )
