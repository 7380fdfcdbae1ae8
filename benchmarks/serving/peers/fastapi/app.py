"""Small models run in the event loop (a thread hop costs more than they do), large ones in one thread."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import orjson
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

root, port, *names = sys.argv[1:]
app = FastAPI()
one_thread = ThreadPoolExecutor(1)


class Vectors(BaseModel):
    inputs: list[list[float]]


class Pictures(BaseModel):
    inputs: list[list[list[list[float]]]]


def serve(name: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(f"{root}/{name}/model.onnx", options)
    slow = len(session.get_inputs()[0].shape) > 2

    def run(inputs: list) -> bytes:
        (out,) = session.run(None, {"input": np.array(inputs, np.float32)})
        return orjson.dumps({"outputs": out}, option=orjson.OPT_SERIALIZE_NUMPY)

    async def fast_path(request: Vectors) -> Response:
        return Response(run(request.inputs), media_type="application/json")

    async def slow_path(request: Pictures) -> Response:
        loop = asyncio.get_running_loop()
        return Response(
            await loop.run_in_executor(one_thread, run, request.inputs), media_type="application/json"
        )

    app.post(f"/predict/{name}")(slow_path if slow else fast_path)


for model in names:
    serve(model)
uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(port),
    loop="uvloop",
    http="httptools",
    access_log=False,
    log_level="warning",
)
