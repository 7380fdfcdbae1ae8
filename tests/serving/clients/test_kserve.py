"""The kserve package's inference clients, unmodified, in an environment of their own: they bring a lot."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from grpc_calls import url
from running_server import Server

PACKAGE = "kserve>=0.15"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "serving-estate" / "clients"

SCRIPT = """
import asyncio, json, sys
import numpy as np
from kserve import InferInput, InferRequest, InferOutput
from kserve.inference_client import InferenceGRPCClient, InferenceRESTClient, RESTConfig

rest_url, grpc_url = sys.argv[1:]
said = {}

def scale(binary):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = InferInput(name="x", shape=[2, 3], datatype="FP32")
    tensor.set_data_from_numpy(x, binary_data=binary)
    return tensor

async def main():
    rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    said["rest"] = {
        "live": await rest.is_server_live(rest_url),
        "ready": await rest.is_server_ready(rest_url),
        "model": await rest.is_model_ready(rest_url, "scale"),
    }
    for binary in (True, False):
        asked = InferRequest("scale", [scale(binary)], request_id="q")
        answer = await rest.infer(rest_url, asked, model_name="scale")
        said["rest"][f"infer {binary}"] = [answer.id, answer.outputs[0].as_numpy().ravel().tolist()]
    grpc = InferenceGRPCClient(grpc_url, retries=0)
    said["grpc"] = {
        "live": await grpc.is_server_live(),
        "ready": await grpc.is_server_ready(),
        "model": await grpc.is_model_ready("scale"),
    }
    for binary in (True, False):
        answer = await grpc.infer(InferRequest("scale", [scale(binary)], request_id="q"))
        said["grpc"][f"infer {binary}"] = [answer.id, answer.outputs[0].as_numpy().ravel().tolist()]
    types = {
        "BOOL": [True, False], "UINT8": [0, 255], "UINT16": [0, 65535], "UINT32": [0, 2**32 - 1],
        "UINT64": [0, 2**64 - 1], "INT8": [-128, 127], "INT16": [-32768, 32767],
        "INT32": [-(2**31), 2**31 - 1], "INT64": [-(2**63), 2**63 - 1], "FP16": [0.5, -2.0],
        "FP32": [1.5, -3.25], "FP64": [0.1, 1e300], "BYTES": [b"a", "\\u00fc".encode()],
    }
    numpy_types = {"BOOL": "bool", "BYTES": "object", "FP16": "float16", "FP32": "float32", "FP64": "float64"}
    tensors = []
    for name, values in types.items():
        tensor = InferInput(name=f"in_{name}", shape=[1, 2], datatype=name)
        tensor.set_data_from_numpy(np.array([values], numpy_types.get(name, name.lower())), binary_data=True)
        tensors.append(tensor)
    for side, ask in (
        ("rest", lambda r: rest.infer(rest_url, r, model_name="echo")),
        ("grpc", grpc.infer),
    ):
        answer = await ask(InferRequest("echo", tensors))
        got = {o.name.removeprefix("out_"): o.as_numpy().ravel().tolist() for o in answer.outputs}
        as_bytes = lambda values: [v.encode() if isinstance(v, str) else v for v in values]
        said[side]["different"] = [t for t in types if as_bytes(got[t]) != types[t]]
    try:
        await grpc.infer(InferRequest("none", [scale(True)]))
    except Exception as error:
        said["grpc"]["error"] = str(error)
    await rest.close()
    await grpc.close()

asyncio.run(main())
print(json.dumps(said))
"""


@pytest.fixture(scope="session")
def kserve_python() -> Path:
    """Python of an environment with kserve; made once and kept."""
    folder = CACHE / "kserve"
    python = folder / "bin" / "python"
    if not (folder / "installed").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PACKAGE], check=True)
        (folder / "installed").touch()
    return python


@pytest.mark.timeout(900)
def test_rest_and_grpc(shared: Server, kserve_python: Path) -> None:
    done = subprocess.run(
        [kserve_python, "-c", SCRIPT, f"http://{shared.url}", url(shared)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    doubled = ["q", [0, 2, 4, 6, 8, 10]]
    good = {"live": True, "ready": True, "model": True, "infer True": doubled, "infer False": doubled}
    error = said["grpc"].pop("error")
    assert said == {"rest": {**good, "different": []}, "grpc": {**good, "different": []}}
    assert "'none' is not known to this server" in error
