"""MLflow's server in one process: `python mlflow_server.py PORT DATABASE_URI ARTIFACT_FOLDER`.

`mlflow server` loads MLflow, which takes seconds, to start another process that loads it again. One worker
needs neither the wait nor the memory.
"""

import os
import sys

import uvicorn
from mlflow.server.constants import (
    ARTIFACT_ROOT_ENV_VAR,
    ARTIFACTS_DESTINATION_ENV_VAR,
    BACKEND_STORE_URI_ENV_VAR,
    SERVE_ARTIFACTS_ENV_VAR,
)


def main(port: str, database: str, artifacts: str) -> None:
    """Serve until SIGTERM."""
    os.environ |= {
        BACKEND_STORE_URI_ENV_VAR: database,
        SERVE_ARTIFACTS_ENV_VAR: "true",
        ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
    }
    uvicorn.run("mlflow.server.fastapi_app:app", host="127.0.0.1", port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
