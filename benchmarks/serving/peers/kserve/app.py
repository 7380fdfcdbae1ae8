"""Predict is a coroutine, so that small models need no thread hop; the slow net runs in a thread."""

import asyncio
import sys

root, port, *names, grpc = sys.argv[1:]
sys.argv[1:] = [f"--http_port={port}", grpc, "--workers=1", "--enable_latency_logging=false"]

import kserve  # noqa: E402 - it reads sys.argv when it is imported
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
from kserve import InferOutput, InferRequest, InferResponse  # noqa: E402
from kserve.utils.utils import generate_uuid  # noqa: E402


class OnnxModel(kserve.Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(f"{root}/{self.name}/model.onnx", options)
        self.slow = len(self.session.get_inputs()[0].shape) > 2
        self.ready = True
        return True

    def run(self, rows: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"input": rows})[0]

    async def predict(
        self, payload: InferRequest, _headers: dict[str, str] | None = None, *_: object
    ) -> InferResponse:
        rows = payload.inputs[0].as_numpy()
        out = await asyncio.to_thread(self.run, rows) if self.slow else self.run(rows)
        output = InferOutput("probabilities", list(out.shape), "FP32")
        output.set_data_from_numpy(out, binary_data=payload.use_binary_outputs)
        return InferResponse(
            payload.id or generate_uuid(), self.name, [output], use_binary_outputs=payload.use_binary_outputs
        )


if __name__ == "__main__":
    kserve.ModelServer(enable_docs_url=False, access_log_format=None).start(
        [OnnxModel(name) for name in names]
    )
