"""FastAPI as an expert would write it: pydantic at the door, orjson back, uvloop, inference in the loop."""

from benchmarks.serving.forms import Form, json_rows
from benchmarks.serving.peers import Launch, Peer, Setup


class FastApi(Peer):
    name = "fastapi"
    label = "FastAPI + pydantic + uvicorn, tuned by hand"
    reports = ("fastapi", "pydantic", "uvicorn", "onnxruntime")
    style = "typed"

    def launch(self, setup: Setup) -> Launch:
        return Launch([*setup.app(__file__), self.style], {})

    def forms(self) -> dict[str, Form]:
        return {"json": json_rows("/predict/{model}", "inputs", '"outputs":')}


class ReadsBody(FastApi):
    """One step further than most go: pydantic parses the body itself, FastAPI's own handling is left out."""

    name = "fastapi-body"
    label = "FastAPI, body parsed by pydantic directly"
    style = "body"


PEERS = [FastApi(), ReadsBody()]
