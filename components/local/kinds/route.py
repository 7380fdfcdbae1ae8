"""The way from an endpoint's address to its variants: weights, pins and mirror."""

import json
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar

from ...provider.kind import UNKNOWN, Cancelled, Gone, Kind, Properties
from ...provider.weights import weights
from ..machine import brake, envoy, loopback, ports
from ..machine.files import read_json, remove, write_json
from .gateway import compose


class Route(Kind):
    """One listener of the gateway and where it leads."""

    replaces: ClassVar[frozenset[str]] = frozenset({"gateway", "name"})

    def preview(self, new: Properties, old: Properties | None) -> dict[str, Any]:  # noqa: ARG002
        """The address stays for as long as the route does."""
        return {key: old[key] if old else UNKNOWN for key in ("url", "grpc")}

    def apply(self, new: Properties, seconds: float) -> dict[str, Any]:
        """Declare the route and wait until the gateway has it in use."""
        name, config = new["name"], Path(new["gateway"])
        port = ports.lease(_owner(new))
        rds, part = brake.routes_file(config, name), config / "routes" / f"{name}.json"
        listeners = [envoy.listener(name, port, rds)]
        clusters = {c["name"]: c for c in envoy.clusters(name, new["services"], new.get("stand_in"))}
        before = {c["name"]: c for c in (read_json(part) or {"clusters": []})["clusters"]}

        def write_routes() -> None:
            asked = weights(new, sorted(new["services"]))
            brake.write_routes(config, name, asked, lambda given: _routes({**new, "traffic": given}))

        # Make before break: new variants are known before the weights name them, and old ones are only
        # forgotten when the weights do not name them any more.
        admin, deadline = read_json(config / "admin.json")["url"], time.monotonic() + (seconds or 20)
        if not rds.exists():
            write_routes()
        write_json(part, {"clusters": list((before | clusters).values()), "listeners": listeners})
        compose(config)
        self._await(lambda: clusters.keys() <= _clusters(admin), name, deadline)
        write_routes()
        # Of the file as it is now: a brake may have changed it meanwhile.
        self._await(lambda: route_version(admin, name) == read_json(rds)["version_info"], name, deadline)
        write_json(part, {"clusters": list(clusters.values()), "listeners": listeners})
        compose(config)
        return {"url": f"http://127.0.0.1:{port}", "grpc": f"127.0.0.1:{port}"}

    def _await(self, reached: Callable[[], bool], name: str, deadline: float) -> None:
        while not reached():
            if self.cancelled.is_set():
                raise Cancelled
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"the gateway did not take the route of endpoint {name} in time; its log "
                    "(logs/gateway.0.log in the stack's state folder) says what it refused"
                )
            time.sleep(0.01)

    def read(self, state: Properties) -> dict[str, Any]:
        """With the weights that are in use; gone when it was removed, or changed in another way."""
        config, name = Path(state["gateway"]), state["name"]
        found = read_json(brake.routes_file(config, name))
        if found is None or not (config / "routes" / f"{name}.json").exists():
            raise Gone
        weights = envoy.weights(found)
        same = {k: v for k, v in weights.items() if v} == {k: v for k, v in state["traffic"].items() if v}
        read = {**state, "traffic": state["traffic"] if same else weights}
        if found["resources"] != _routes(read)["resources"]:
            raise Gone
        return read

    def delete(self, state: Properties) -> None:
        """Take the listener and the clusters away, then the files and the port."""
        config = Path(state["gateway"])
        if config.is_dir():
            remove(config / "routes" / f"{state['name']}.json")
            compose(config)
            brake.forget(config, state["name"])
        ports.release(_owner(state))


def _routes(properties: Properties) -> envoy.Json:
    return envoy.discovery(
        [
            envoy.route_configuration(
                endpoint=properties["name"],
                weights=weights(properties, sorted(properties["services"])),
                shadow=properties.get("shadow"),
                users=properties.get("users"),
                pin_header=properties["pin_header"],
                timeout_seconds=properties["timeout_ms"] / 1000,
                retries=properties["retries"],
                stand_in=properties.get("stand_in"),
            )
        ]
    )


def _owner(properties: Properties) -> str:
    return f"{properties['gateway']}:{properties['name']}"


def _clusters(admin: str) -> set[str]:
    dump = _get(f"{admin}/config_dump?resource=dynamic_active_clusters")
    return {config["cluster"]["name"] for config in dump.get("configs", [])}


def route_version(admin: str, name: str) -> str | None:
    """The version of an endpoint's routes that the gateway uses; None where it does not tell."""
    dump = _get(f"{admin}/config_dump?resource=dynamic_route_configs")
    versions = {c["route_config"]["name"]: c["version_info"] for c in dump.get("configs", [])}
    return versions.get(name)


def _get(url: str) -> dict[str, Any]:
    try:
        with loopback.get(url, timeout=5) as response:
            return dict(json.load(response))
    except (OSError, HTTPException, ValueError):
        return {}
