"""An Envoy that follows the configuration files of the stack's routes."""

import json
from pathlib import Path
from typing import Any

from ...provider.kind import UNKNOWN, Properties
from ..machine import envoy
from ..machine.files import locked, read_json, write_json
from ..machine.processes import Group, Replica
from .process_kind import ProcessKind


class Gateway(ProcessKind):
    """The process; what it routes is declared by `Route`."""

    def group(self, new: Properties) -> Group:
        """Envoy with the bootstrap that names the configuration files."""
        bootstrap = json.dumps(envoy.bootstrap(new["name"])).replace('"@admin@"', "@admin@")
        return Group(
            name=new["name"],
            # Hot restart is not used, and leaves shared memory behind when it is on.
            command=["envoy", "-c", "@dir@/bootstrap.json", "--concurrency", "2", "--disable-hot-restart"],
            files={"bootstrap.json": bootstrap},
            ports=["admin"],
            ready_path="/ready",
            overlap=False,
        )

    def apply(self, new: Properties, seconds: float) -> dict[str, Any]:
        """Put the files in place that Envoy wants to find at its start, and say where to ask it."""
        config = self.groups(new).data(new["name"])
        compose(config)
        outputs = super().apply(new, seconds)
        write_json(config / "admin.json", {"url": outputs["admin"]})
        return outputs

    def outputs(self, new: Properties, replicas: list[Replica] | None) -> dict[str, Any]:
        """`config`: the folder of the configuration files; `admin`: Envoy's admin address."""
        return {
            "config": str(self.groups(new).data(new["name"])),
            "admin": f"http://127.0.0.1:{replicas[0].ports['admin']}" if replicas else UNKNOWN,
        }


def compose(config: Path) -> None:
    """Join what the routes in `config` declare into the two files that Envoy reads whole."""
    with locked(config / "lock"):
        parts = [read_json(file) for file in sorted((config / "routes").glob("*.json"))]
        for name in ("clusters", "listeners"):
            file = config / f"{name}.json"
            response = envoy.discovery([resource for part in parts for resource in part[name]])
            if read_json(file) != response:
                write_json(file, response)
