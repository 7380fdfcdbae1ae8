"""The project's own model server, `serving_image/`."""

import json

from .base import Listen, Server


def bundled(model: str, served_name: str, registry: str, listen: Listen) -> Server:
    """`model-server serve` with a settings file."""
    settings = {
        # It keeps answering for a moment after SIGTERM, until the gateway has stopped sending.
        "server": {
            "host": listen.host,
            "http_port": "@http@",
            "grpc_port": "@grpc@",
            "drain_seconds": listen.drain_seconds,
            # What a rollout compares; elsewhere than on loopback too many could ask.
            **({"tells_answers": True} if listen.host == "127.0.0.1" else {}),
        },
        "registry": {"tracking_uri": registry} if registry else {},
        "models": [{"name": served_name, "source": model}],
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
