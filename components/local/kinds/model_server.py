"""The replicas that serve one variant's model."""

from typing import Any

from ...provider.kind import UNKNOWN, Properties
from ...runtimes import Fallback, server
from ..machine.processes import Group, Replica
from .process_kind import ProcessKind


class ModelServer(ProcessKind):
    """A process group whose command and files come from the variant's runtime."""

    def group(self, new: Properties) -> Group:
        """The runtime's server, told which model to serve."""
        rungs, timeout_ms = new.get("fallback") or (), new.get("timeout_ms") or 0
        spec = server(
            new["runtime"],
            new["model"],
            new["served_name"],
            new["registry"],
            fallback=Fallback(rungs, timeout_ms / 1000),
        )
        return Group(
            name=new["name"],
            command=spec.command,
            files=spec.files,
            ports=spec.ports,
            ready_path=spec.ready_path,
            replicas=int(new["replicas"]),
            stop_seconds=spec.stop_seconds,
            told=_told(new.get("variant"), stands_in=bool(new.get("stands_in"))),
            memory_mib=int(new["memory_mib"]) if new.get("memory_mib") else None,
        )

    def outputs(self, new: Properties, replicas: list[Replica] | None) -> dict[str, Any]:
        """`service`: where routes find the replicas; `addresses`: the base URLs of the replicas."""
        return {
            "service": str(self.groups(new).service(new["name"])),
            "addresses": [f"http://127.0.0.1:{r.ports['http']}" for r in replicas] if replicas else UNKNOWN,
        }


def _told(variant: str | None, *, stands_in: bool) -> dict[str, str]:
    """What clients are told of who answered."""
    if variant is None:
        return {}
    return {"variant": variant, **({"stands-in": f"variant; by={variant}"} if stands_in else {})}
