"""The brake of a cluster: the routes are written as their owner would write them, and the stack follows.

A run of the engine takes many seconds, or has to wait for another one. The route is written under the name
of the field manager that the engine's provider has there: its next run finds the object its own, with the
weights that it is about to write anyway.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import quote

from components.kubernetes.route import grpc_rules, http_rules
from components.kubernetes.weights import divided
from components.spec import Endpoint, GatewaySettings

from ..errors import RolloutError
from .api import Api, ConflictError, UnreachableError

_API = "/apis/gateway.networking.k8s.io/v1/namespaces"
_LOOK_S = 0.5
_KINDS = ("httproutes", "grpcroutes")


class ClusterBrake:
    """Takes requests from a variant before the stack follows."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        described: Callable[[], tuple[Endpoint, GatewaySettings]],
    ) -> None:
        """`name`: of the endpoint; `described`: its block and the gateway's."""
        self._api, self._namespace, self._name, self._described = api, namespace, name, described
        self._released = threading.Event()
        self._thread: threading.Thread | None = None

    def pull(self, weights: Mapping[str, int], instead_of: Sequence[Mapping[str, int]]) -> None:
        """Have the gateway divide requests by `weights` now, and as long as a run may still undo it.

        Args:
            weights: each variant's share in per cent.
            instead_of: weights that a run of the engine may ask for without meaning it.

        Raises:
            RolloutError: the routes cannot be written.
        """
        self.release()
        wanted = {kind: self._backends(kind, weights) for kind in _KINDS}
        undone = {kind: [_short(self._backends(kind, one)) for one in instead_of] for kind in _KINDS}
        try:
            for kind, backends in wanted.items():
                self._write(kind, backends)
        except (UnreachableError, ConflictError) as error:
            raise RolloutError(f"the routes of endpoint {self._name} cannot be written: {error}") from None
        self._released = threading.Event()
        keep = threading.Thread(target=self._keep, args=(self._released, wanted, undone), daemon=True)
        self._thread = keep
        keep.start()

    def release(self) -> None:
        """What the stack asks for is meant again."""
        self._released.set()
        if self._thread:
            self._thread.join(10)
            self._thread = None

    def _keep(
        self,
        released: threading.Event,
        wanted: Mapping[str, list[Any]],
        undone: Mapping[str, list[list[tuple[str, int]]]],
    ) -> None:
        """Write a route again that a run has given weights which nobody means any more."""
        while not released.wait(_LOOK_S):
            for kind, backends in wanted.items():
                with suppress(UnreachableError, ConflictError):
                    route = self._api.get(self._path(kind))
                    rule = weighted(route) if route else None
                    if rule and _short(rule["backendRefs"]) in undone[kind]:
                        self._write(kind, backends)

    def _backends(self, kind: str, weights: Mapping[str, int]) -> list[Any]:
        """The backends of the weighted rule, as the components write them."""
        endpoint, gateway = self._described()
        kept = {name: variant for name, variant in endpoint.variants.items() if name in weights}
        now = divided(endpoint.model_copy(update={"variants": kept}), weights)
        services = {name: f"{self._name}-{name}" for name in kept}
        made = (
            http_rules(self._name, services, now, gateway)
            if kind == "httproutes"
            else grpc_rules(services, now, gateway)
        )
        rule = weighted({"spec": {"rules": [*made]}})
        return [*rule["backendRefs"]] if rule else []

    def _write(self, kind: str, backends: Sequence[Any]) -> None:
        route = self._api.get(self._path(kind))
        rule = weighted(route) if route else None
        if route is None or rule is None:
            return  # a gateway of which there is only the other kind
        rule["backendRefs"] = [*backends]
        meta = route["metadata"]
        kept = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if key in meta}
        body = {key: route[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": kept}
        self._api.apply(self._path(kind), body, owner(route))

    def _path(self, kind: str) -> str:
        return f"{_API}/{quote(self._namespace)}/{kind}/{quote(self._name)}"


def weighted(route: Mapping[str, Any]) -> dict[str, Any] | None:
    """The rule that divides requests: the one that asks for no header."""
    for rule in route["spec"].get("rules") or []:
        asks = any(match.get("headers") for match in rule.get("matches") or [])
        if rule.get("backendRefs") and not asks:
            return cast(dict[str, Any], rule)
    return None


def owner(route: Mapping[str, Any]) -> str:
    """The field manager that has the rules: that of the engine's provider."""
    for entry in route["metadata"].get("managedFields") or []:
        fields = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if entry.get("operation") == "Apply" and "f:rules" in fields:
            return str(entry["manager"])
    return "estate-rollout"


def _short(backends: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return [(str(one["name"]), int(one.get("weight", 1))) for one in backends]
