"""An MLflow server with its database and artifacts in the stack's folder."""

from typing import Any

from ..processes import Group, Replica
from .base import UNKNOWN, Properties
from .process_kind import ProcessKind


class Registry(ProcessKind):
    """One process: SQLite allows no second writer beside it."""

    def group(self, new: Properties) -> Group:
        """An MLflow server without the job runners that only evaluation of language models needs."""
        return Group(
            name=new["name"],
            command=[
                *("mlflow", "server", "--host", "127.0.0.1", "--port", "@http@", "--workers", "1"),
                *("--backend-store-uri", "sqlite:///@data@/mlflow.db"),
                *("--artifacts-destination", "@data@/artifacts"),
            ],
            env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            ports=["http"],
            ready_path="/health",
            overlap=False,
            has_children=True,  # `mlflow` starts the server and waits for it
            ready_seconds=180,  # a cold start on a slow disk imports for most of a minute
        )

    def outputs(self, new: Properties, replicas: list[Replica] | None) -> dict[str, Any]:  # noqa: ARG002
        """`url`: the tracking URI."""
        return {"url": f"http://127.0.0.1:{replicas[0].ports['http']}" if replicas else UNKNOWN}
