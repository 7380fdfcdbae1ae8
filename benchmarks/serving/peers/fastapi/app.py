"""Small models run in the event loop (a thread hop costs more than they do), large ones in one thread."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

root, port, *names, style = sys.argv[1:]
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

    async def answer(inputs: list) -> Response:
        if slow:
            body = await asyncio.get_running_loop().run_in_executor(one_thread, run, inputs)
        else:
            body = run(inputs)
        return Response(body, media_type="application/json")

    kind = Pictures if slow else Vectors

    async def typed(request: kind) -> Response:
        return await answer(request.inputs)

    async def from_body(request: Request) -> Response:
        return await answer(kind.model_validate_json(await request.body()).inputs)

    app.post(f"/predict/{name}")(typed if style == "typed" else from_body)


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
