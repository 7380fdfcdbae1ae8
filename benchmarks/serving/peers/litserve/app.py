"""Batches of up to 32 with a window of 1 ms, over the ZeroMQ queue that LitServe advises for high rates."""

import sys

import litserve
import numpy as np
import onnxruntime


class OnnxApi(litserve.LitAPI):
    def __init__(self, root: str, name: str) -> None:
        super().__init__(max_batch_size=32, batch_timeout=0.001, api_path=f"/predict/{name}")
        self.path = f"{root}/{name}/model.onnx"

    def setup(self, device: str) -> None:  # noqa: ARG002
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.path, options)

    def decode_request(self, request: dict) -> np.ndarray:
        return np.array(request["input"], np.float32)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"input": rows})[0]

    def encode_response(self, output: np.ndarray) -> dict:
        return {"output": output.tolist()}


if __name__ == "__main__":
    root, port, *names = sys.argv[1:]
    apis = [OnnxApi(root, name) for name in names]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(port),
        num_api_servers=1,
        access_log=False,
        log_level="warning",
        generate_client_file=False,
    )
