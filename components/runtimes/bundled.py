"""The project's own model server, `serving_image/`."""

import json
from collections.abc import Mapping
from typing import Any

from .base import Fallback, Listen, Server


def bundled(
    model: str, served_name: str, registry: str, listen: Listen, fallback: Fallback, counts_predictions: bool
) -> Server:
    """`model-server serve` with a settings file."""
    settings = {
        # It keeps answering for a moment after SIGTERM, until the gateway has stopped sending.
        "server": {
            "host": listen.host,
            "http_port": "@http@",
            "grpc_port": "@grpc@",
            "drain_seconds": listen.drain_seconds,
            **({"tells_answers": True} if listen.tells_answers else {}),
        },
        "registry": {"tracking_uri": registry} if registry else {},
        **({"predictions": {"sample": 0.1}} if counts_predictions else {}),
        **_models(model, served_name, fallback),
    }
    return Server(
        command=["model-server", "serve", "--config", "@dir@/settings.yaml"],
        ready_path="/v2/health/ready",
        files={
            "settings.yaml": json.dumps(settings, indent=1)
            .replace('"@http@"', "@http@")
            .replace('"@grpc@"', "@grpc@")
        },
    )


def _models(model: str, served_name: str, fallback: Fallback) -> dict[str, Any]:
    """The model with what stands in for it."""
    served: dict[str, Any] = {"name": served_name, "source": model}
    if not fallback.rungs:
        return {"models": [served]}
    others = [rung["model"] for rung in fallback.rungs if "model" in rung]
    names = {source: f"{served_name[:100]}-fallback-{number}" for number, source in enumerate(others, 1)}
    served["fallback"] = {"rungs": [_rung(rung, names) for rung in fallback.rungs]}
    served["timeout_seconds"] = fallback.timeout_s
    if any("cached_s" in rung for rung in fallback.rungs):
        served["cache"] = {"ttl_seconds": 0}  # a model that can answer, does
    return {
        "models": [served, *({"name": name, "source": source} for source, name in names.items())],
        "default_model": served_name,
    }


def _rung(rung: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A rung in the server's words."""
    if "model" in rung:
        return {"model": names[rung["model"]]}
    if "cached_s" in rung:
        return {"cached_seconds": rung["cached_s"]}
    return dict(rung)
