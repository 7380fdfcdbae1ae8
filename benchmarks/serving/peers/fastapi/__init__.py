"""FastAPI as an expert would write it: pydantic at the door, orjson back, uvloop, inference in the loop."""

from benchmarks.serving.forms import Form, json_rows
from benchmarks.serving.peers import Launch, Peer, Setup


class FastApi(Peer):
    name = "fastapi"
    label = "FastAPI + pydantic + uvicorn, tuned by hand"
    reports = ("fastapi", "pydantic", "uvicorn", "onnxruntime")

    def launch(self, setup: Setup) -> Launch:
        return Launch(setup.app(__file__), {})

    def forms(self) -> dict[str, Form]:
        return {"json": json_rows("/predict/{model}", "inputs", '"outputs":')}


PEERS = [FastApi()]
