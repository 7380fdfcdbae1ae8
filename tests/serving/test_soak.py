"""Load with reloads for a while: 20 seconds in the suite, two minutes where CI=true.

`python3 -m benchmarks.serving.soak` is the long one, at a measured share of what the server can do.
"""

import http.client
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from running_server import Server, infer_body

SECONDS = 120 if os.environ.get("CI") == "true" else 20
CLIENTS = 4
PAUSE_SECONDS = 0.01
RELOAD_SECONDS = 1.0
WARM_UP = 0.3
"""The first share of the samples is not judged: allocators and caches fill."""
GROWTH_FLOOR_MB = 6.0
"""Over the judged part; a reload holds two versions for a moment."""


class Soak:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.stop = threading.Event()
        self.right = 0
        self.reloads = 0
        self.faults: list[str] = []
        self.samples: list[tuple[float, float]] = []

    def ask(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        while not self.stop.is_set():
            rows = int(rng.integers(1, 9))
            x = rng.standard_normal((rows, 3)).astype(np.float32)
            try:
                connection.request(
                    "POST", "/v2/models/scale/infer", json.dumps(infer_body(x.ravel().tolist(), [rows, 3]))
                )
                response = connection.getresponse()
                answer = json.loads(response.read())
                if response.status != 200:
                    self.faults.append(f"status {response.status}: {answer}")
                elif not np.allclose(answer["outputs"][0]["data"], 2 * x.ravel(), rtol=1e-5):
                    self.faults.append("a wrong answer")
                else:
                    self.right += 1
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(repr(error))
                connection.close()
            time.sleep(PAUSE_SECONDS)
        connection.close()

    def reload(self) -> None:
        while not self.stop.wait(RELOAD_SECONDS):
            status, answer, _ = self.server.post("/v2/repository/models/scale/load")
            self.reloads += 1
            if status != 200:
                self.faults.append(f"reload: status {status}: {answer}")

    def run(self) -> None:
        threads = [threading.Thread(target=self.ask, args=(seed,)) for seed in range(CLIENTS)]
        threads.append(threading.Thread(target=self.reload))
        for thread in threads:
            thread.start()
        began = time.monotonic()
        while (spent := time.monotonic() - began) < SECONDS:
            self.samples.append((spent, resident_mb(self.server.process.pid)))
            time.sleep(SECONDS / 100)
        self.stop.set()
        for thread in threads:
            thread.join()

    def growth_mb(self) -> float:
        """What the straight line through the judged samples rises."""
        times, sizes = np.array(self.samples[int(len(self.samples) * WARM_UP) :]).T
        return float(np.polyfit(times, sizes, 1)[0] * (times[-1] - times[0]))


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_every_answer_is_right_and_memory_stays_flat(start: Callable[..., Server], models: Path) -> None:
    declared = [{"name": "scale", "source": str(models / "scale.onnx")}]
    soak = Soak(start({"models": declared}).until_ready())
    soak.run()
    assert soak.faults == []
    assert soak.right > 10 * SECONDS
    assert soak.reloads > SECONDS / RELOAD_SECONDS / 4
    assert soak.growth_mb() < GROWTH_FLOOR_MB, soak.samples[::10]
    assert soak.server.stop() == 0
