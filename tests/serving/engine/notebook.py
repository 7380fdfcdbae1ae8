"""An example observer: writes a line a call. The tests hand it to the server as `notebook:Notebook`."""

import json
import time
from pathlib import Path
from typing import Any

from model_server.engine.observers import Observation


class Notebook:
    """Made with the settings' options: where to write, how long to dawdle, when to fail."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._file = Path(options["path"]).open("a")  # noqa: SIM115 - close() closes it
        self._seconds = options.get("seconds", 0.0)
        self._fails_at = options.get("fails_at")

    def observe(self, observation: Observation) -> None:
        time.sleep(self._seconds)
        inputs = {name: array.tolist() for name, array in observation.inputs.items()}
        if self._fails_at in [number for data in inputs.values() for number in data]:
            raise ValueError("this observer does not like the number")
        entry = {
            "model": observation.model,
            "version": observation.version,
            "inputs": inputs,
            "outputs": {name: array.tolist() for name, array in observation.outputs.items()},
            "error": observation.error.kind if observation.error else None,
            "degraded": observation.degraded.rung if observation.degraded else None,
            "request_id": observation.request_id,
            "trace_id": observation.trace_id,
            "received": observation.received,
            "seconds": observation.seconds,
        }
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.write('"closed"\n')
        self._file.close()
