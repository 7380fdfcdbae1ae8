"""An MLflow server with its database and artifacts in the stack's folder."""

import sys
from pathlib import Path
from typing import Any

from ...provider.kind import UNKNOWN, Properties
from ..machine.processes import Group, Replica
from .process_kind import ProcessKind

_SERVER = Path(__file__).parents[1] / "machine" / "mlflow_server.py"


class Registry(ProcessKind):
    """One process: SQLite allows no second writer beside it."""

    def group(self, new: Properties) -> Group:
        """An MLflow server without the job runners that only evaluation of language models needs."""
        return Group(
            name=new["name"],
            command=[
                sys.executable,
                str(_SERVER),
                "@http@",
                "sqlite:///@data@/mlflow.db",
                "@data@/artifacts",
            ],
            env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            ports=["http"],
            ready_path="/health",
            overlap=False,
            ready_seconds=180,  # a cold start on a slow disk imports for most of a minute
        )

    def outputs(self, new: Properties, replicas: list[Replica] | None) -> dict[str, Any]:  # noqa: ARG002
        """`url`: the tracking URI."""
        return {"url": f"http://127.0.0.1:{replicas[0].ports['http']}" if replicas else UNKNOWN}
