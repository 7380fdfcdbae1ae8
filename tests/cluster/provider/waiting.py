"""Waiting until an object is ready, or gone, and saying meanwhile what it waits for."""

import time
from collections.abc import Mapping
from typing import Any

from . import diagnosis
from .api import Api, Resource
from .engine import Engine
from .errors import ApiError, NotReady, ProviderError
from .objects import WAIT_FOR, annotation, at, name_of, namespace_of
from .readiness import Failed, State, Waiting, endpoints, readiness

SECONDS = 600.0
"""How long is waited where nobody says otherwise."""
TICK = 3
"""Seconds of watching between looks at the pods."""
SETTLED = 10.0
"""Seconds after which a Service without pods is taken for what was wanted."""

Object = dict[str, Any]


class Waiter:
    """Waits for one resource of the program; `live` is its object as it was last seen."""

    def __init__(self, api: Api, engine: Engine, urn: str, resource: Resource, live: Object) -> None:
        self._api, self._engine, self._urn, self._resource = api, engine, urn, resource
        self.live = live
        self._said = ""
        self._since = time.monotonic()

    # Ready

    def until_ready(self, seconds: float) -> Object:
        """The object once it is ready. Raises `NotReady` when it cannot be, or is not after so long."""
        deadline = time.monotonic() + seconds
        reasons: list[str] = []
        while True:
            state = self._state()
            if state is None:
                self._status("")
                return self.live
            if isinstance(state, Failed) or time.monotonic() >= deadline:
                raise self._not_ready(state, seconds)
            self._status(reasons[0] if reasons else state.message)
            left = deadline - time.monotonic()
            if self._changed(min(TICK, max(1, int(left)))):
                continue
            self._look()
            reasons = diagnosis.reasons(self._api, self.live)

    def fault(self) -> NotReady | None:
        """What is wrong with the object right now, without waiting."""
        state = self._state(patient=False)
        return None if state is None else self._not_ready(state, None)

    def _state(self, *, patient: bool = True) -> State:
        if self._is_service() and not annotation(self.live, WAIT_FOR):
            return self._service(patient=patient)
        state = readiness(self.live)
        claim = self.live.get("kind") == "PersistentVolumeClaim"
        if claim and isinstance(state, Waiting) and self._bound_by_first_use():
            return None
        return state

    def _not_ready(self, state: Failed | Waiting, seconds: float | None) -> NotReady:
        reasons = diagnosis.reasons(self._api, self.live) or diagnosis.of_unready(self._api, self.live)
        message = state.message
        if isinstance(state, Waiting) and seconds is not None:
            message = f"not ready after {seconds:g} s: {message}"
        return NotReady(message, reasons, self.live)

    def _changed(self, seconds: int) -> bool:
        """Watch for changes; whether there was one. `live` then is the newest."""
        namespace = namespace_of(self.live)
        if self._is_service():
            path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
            query = {"labelSelector": f"kubernetes.io/service-name={name_of(self.live)}"}
            for _ in self._api.watch(path, {**query, "resourceVersion": self._slices_version}, seconds):
                return True
            return False
        query = {
            "fieldSelector": f"metadata.name={name_of(self.live)}",
            "resourceVersion": at(self.live, "metadata", "resourceVersion", default="0"),
        }
        for kind, seen in self._api.watch(self._resource.path(namespace), query, seconds):
            if kind == "DELETED":
                raise NotReady("it was deleted by somebody else while this run waited for it", (), self.live)
            self.live = seen
            state = self._state()
            if not isinstance(state, Waiting):
                return True
            self._status(state.message)
        return False

    def _look(self) -> None:
        try:
            self.live = self._api.get(self._resource.path(namespace_of(self.live), name_of(self.live)))
        except ApiError as error:
            if error.code != 404:
                raise
            raise NotReady(
                "it was deleted by somebody else while this run waited for it", (), self.live
            ) from error

    # Services

    def _is_service(self) -> bool:
        return self.live.get("kind") == "Service" and self.live.get("apiVersion") == "v1"

    _slices_version = "0"

    def _service(self, *, patient: bool) -> State:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace_of(self.live)}/endpointslices"
        query = {"labelSelector": f"kubernetes.io/service-name={name_of(self.live)}"}
        listed = self._api.get(path, query)
        if self._slices_version != listed["metadata"]["resourceVersion"]:
            self._slices_version = listed["metadata"]["resourceVersion"]
        state, sure = endpoints(self.live, listed["items"])
        if state is not None or sure or not patient:
            return state
        if time.monotonic() - self._since >= SETTLED:
            return None
        return Waiting("no pod belongs to it yet")

    # Claims

    def _bound_by_first_use(self) -> bool:
        name = at(self.live, "spec", "storageClassName")
        if not name:
            return False
        try:
            found = self._api.get(f"/apis/storage.k8s.io/v1/storageclasses/{name}")
        except ApiError:
            return False
        return bool(found.get("volumeBindingMode") == "WaitForFirstConsumer")

    # Gone

    def until_gone(self, seconds: float) -> None:
        """Return once the object is not there any more. Raises `NotReady` when it still is after so long."""
        deadline = time.monotonic() + seconds
        namespace, name = namespace_of(self.live), name_of(self.live)
        uid = at(self.live, "metadata", "uid")
        pause = 0.05
        while True:
            try:
                self.live = self._api.get(self._resource.path(namespace, name))
            except ApiError as error:
                if error.code != 404:
                    raise
                self._status("")
                return
            if at(self.live, "metadata", "uid") != uid:  # another one of the same name
                return
            self._status(self._lingers())
            if time.monotonic() >= deadline:
                raise NotReady(f"still there after {seconds:g} s: {self._lingers()}", (), self.live)
            # Most objects are gone at once; a watch for each would cost more than it tells.
            if pause < 0.5:
                self._api.pause(pause)
                pause *= 2
                continue
            query = {
                "fieldSelector": f"metadata.name={name}",
                "resourceVersion": at(self.live, "metadata", "resourceVersion"),
            }
            for kind, _ in self._api.watch(self._resource.path(namespace), query, TICK):
                if kind == "DELETED":
                    break

    def _lingers(self) -> str:
        finalizers = [
            *at(self.live, "metadata", "finalizers", default=[]),
            *at(self.live, "spec", "finalizers", default=[]),
        ]
        told = [
            str(entry.get("message"))
            for entry in at(self.live, "status", "conditions", default=[])
            if self.live.get("kind") == "Namespace" and entry.get("status") == "True"
        ]
        return "; ".join(
            [f"waiting for finalizers {', '.join(finalizers)}" if finalizers else "ending", *told]
        )

    def _status(self, message: str) -> None:
        if message != self._said:
            self._said = message
            self._engine.status(self._urn, message)


def patience(requested: float, inputs: Mapping[str, Any]) -> float:
    """How many seconds to wait: what the program's `custom_timeouts` say, else the object's annotation."""
    if requested:
        return requested
    written = annotation(inputs, "pulumi.com/timeoutSeconds")
    if not written:
        return SECONDS
    try:
        return float(written)
    except ValueError:
        raise ProviderError(f"`pulumi.com/timeoutSeconds: {written}` is not a number of seconds") from None
