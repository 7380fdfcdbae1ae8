"""Replicas take no CPU from Ray's book-keeping (there is one core); requests are batched in the replica."""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import ray
from ray import serve
from ray.serve.config import HTTPOptions
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=128, ray_actor_options={"num_cpus": 0})
class Onnx:
    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001)
    async def run(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        return list(self.session.run(None, {"input": np.stack(rows)})[0])

    async def __call__(self, request: Request) -> dict:
        row = np.array((await request.json())["input"], np.float32)
        return {"output": (await self.run(row)).tolist()}


if __name__ == "__main__":
    root, port, *names = sys.argv[1:]
    home = str(Path.cwd() / "r")  # its sockets need a short path
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=home)
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=int(port)),
        logging_config={"enable_access_log": False},
    )
    for name in names:
        app = Onnx.options(name=name).bind(f"{root}/{name}/model.onnx")
        serve.run(app, name=name, route_prefix=f"/predict/{name}")
    while True:
        time.sleep(60)
