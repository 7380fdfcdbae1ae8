"""An endpoint of a cluster: its weights are moved through the engine as everywhere, its pods are asked each.

The engine is done when the API server has the route. A step that is counted from then on would count requests
that the gateway still divides as before, so a move ends when the gateway's controller says that it has seen
the route, and what is read is not older than that.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from components.spec import Endpoint, EstateSpec, GatewaySettings
from components.spec.gateway_classes import GatewayClass

from ..errors import RolloutError, SourceDownError
from ..placement import Placement, PulumiStack
from .api import Api, UnreachableError
from .brake import ClusterBrake
from .forward import Forward
from .scrape import ENDPOINT, SERVER_PORT, VARIANT, PodScrape, Scrape, is_ready

_ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces"
_KINDS = {"httproutes": "httproute", "grpcroutes": "grpcroute"}
_SEEN_SECONDS = 30.0
_PROXIES_SECONDS = 1.0
"""What proxies take to have what their controller has: it tells of the route when it sends it to them."""
_SCRAPED_SECONDS = 120.0


class ClusterStack(PulumiStack):
    """An endpoint of a stack whose platform is a cluster."""

    api: Api
    namespace: str
    """That of the estate."""

    def __init__(self, project: Path, stack: str, endpoint: str, journals: Path) -> None:
        """Find the project and its stack file; for the arguments see `PulumiStack`.

        Raises:
            RolloutError: there is no project, or no such stack file.
        """
        super().__init__(project, stack, endpoint, journals)
        self.scrape: Scrape | None = None
        """Where the evidence comes from, once that is known: a move ends when it shows what came after it."""

    @property
    def context(self) -> str | None:
        """The context of the kubeconfig that the stack's provider is told to use."""
        found = self._settings().get("kubernetes:context")
        return found if isinstance(found, str) else None

    def connect(self, api: Api, namespace: str) -> None:
        """Say which cluster it is, and in which namespace the estate lives there."""
        self.api, self.namespace = api, namespace
        self._forward = Forward(api)
        self._brake = ClusterBrake(api, namespace, self.endpoint, self._described)
        self.brake = self._brake

    def present(self) -> Placement:
        """The endpoint as it runs, each replica with an address that can be asked from here.

        Raises:
            RolloutError: there is no such endpoint, or no such stack, or the cluster does not answer.
        """
        placement = super().present()
        self.brake = self._brake
        addresses = self._addresses()
        variants = {
            name: replace(variant, addresses=addresses.get(name, ()))
            for name, variant in placement.variants.items()
        }
        self.placement = Placement(variants, "")
        return self.placement

    def move(self, weights: Mapping[str, int], why: str) -> None:
        """Set the weights, and return when they are in use.

        Raises:
            BusyError: somebody else's run of the engine is under way.
            RolloutError: the engine could not do it, or the gateway does not take the route.
        """
        super().move(weights, why)
        self._routed()
        moved = time.time()
        deadline = time.monotonic() + _SCRAPED_SECONDS
        while self.scrape is not None and time.monotonic() < deadline:
            try:
                if self.scrape.seen_up_to(self.endpoint) >= moved + _PROXIES_SECONDS:
                    return
            except SourceDownError:
                return  # the driver finds out itself, and holds
            time.sleep(0.2)

    def _described(self) -> tuple[Endpoint, GatewaySettings]:
        return self.spec(), self.estate().gateway or GatewaySettings()

    def _routed(self) -> None:
        """Wait until the gateway's controller has seen the routes as they are now."""
        deadline = time.monotonic() + _SEEN_SECONDS
        while (waiting := self._unseen()) is not None:
            if time.monotonic() > deadline:
                raise RolloutError(
                    f"the weights are set, but the gateway does not take them: {waiting}; "
                    f"`kubectl --namespace {self.namespace} describe httproute {self.endpoint}` says more"
                )
            time.sleep(0.1)

    def _unseen(self) -> str | None:
        """What the controller has not seen, or does not accept."""
        for plural in _KINDS:
            try:
                route = self.api.get(f"{_ROUTES}/{self.namespace}/{plural}/{quote(self.endpoint)}")
            except UnreachableError as error:
                return str(error)
            told = unseen(route) if route else None
            if told:
                return told
        return None

    def variant_of(self, endpoint: str) -> Callable[[str], str | None]:
        """What tells the variant that a cluster of the gateway's Envoys leads to.

        Envoy Gateway calls them for the place that a backend has in its route, and another variant may have
        that place by now: so the routes are read each time.
        """
        known: dict[str, str] = {}
        for plural, kind in _KINDS.items():
            try:
                route = self.api.get(f"{_ROUTES}/{self.namespace}/{plural}/{quote(endpoint)}")
            except UnreachableError as error:
                raise SourceDownError(f"the routes of endpoint {endpoint}: {error}") from None
            known |= clusters(route, kind, self.namespace, endpoint) if route else {}
        return known.get

    def _addresses(self) -> dict[str, tuple[str, ...]]:
        try:
            found = self.api.get(
                f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=f"{ENDPOINT}={self.endpoint}"
            )
        except UnreachableError as error:
            raise RolloutError(f"the pods of endpoint {self.endpoint} cannot be listed: {error}") from None
        addresses: dict[str, tuple[str, ...]] = {}
        for pod in (found or {"items": []})["items"]:
            meta = pod["metadata"]
            variant = meta["labels"].get(VARIANT, "")
            if is_ready(pod):
                at = self._forward.address(self.namespace, meta["name"], SERVER_PORT)
                addresses[variant] = (*addresses.get(variant, ()), at)
        return addresses


def pods_of(api: Api, namespace: str, estate: EstateSpec) -> PodScrape:
    """Where the evidence comes from where there is no Prometheus."""
    settings = estate.gateway or GatewaySettings()
    if settings.implementation is not GatewayClass.ENVOY:
        return PodScrape(api, namespace, None)
    there = (settings.existing or f"{namespace}/gateway").split("/")
    return PodScrape(api, namespace, (there[0], there[1]))


def unseen(route: Mapping[str, Any]) -> str | None:
    """What keeps a route from being in use, by what its controller says of it; None where nothing does."""
    name = f"{route['kind']} {route['metadata']['name']}"
    parents = (route.get("status") or {}).get("parents") or []
    if not parents:
        return f"no controller has seen {name}"
    for parent in parents:
        for condition in parent.get("conditions") or []:
            if condition.get("observedGeneration", 0) < route["metadata"]["generation"]:
                return f"{name} as it is now has not been seen by {parent.get('controllerName')}"
            if condition["type"] in ("Accepted", "ResolvedRefs") and condition["status"] != "True":
                return f"{name}: {condition.get('reason')}: {condition.get('message')}"
    return None


def clusters(route: Mapping[str, Any], kind: str, namespace: str, endpoint: str) -> dict[str, str]:
    """The variant of each cluster that Envoy Gateway makes of a route's backends."""
    found = {}
    for number, rule in enumerate(route["spec"].get("rules") or []):
        backends = rule.get("backendRefs") or []
        for place, backend in enumerate(backends):
            variant = str(backend["name"]).removeprefix(f"{endpoint}-")
            name = f"{kind}/{namespace}/{endpoint}/rule/{number}"
            found[f"{name}/backend/{place}"] = variant
            if len(backends) == 1:
                found[name] = variant
    return found
