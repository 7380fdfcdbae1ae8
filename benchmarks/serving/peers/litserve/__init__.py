"""LitServe: one API process and one model worker, which is the least it runs with."""

from benchmarks.serving.forms import Form, json_row
from benchmarks.serving.peers import Launch, Peer, Setup


class LitServe(Peer):
    name = "litserve"
    label = "LitServe"
    reports = ("litserve", "fastapi", "onnxruntime")

    def launch(self, setup: Setup) -> Launch:
        return Launch(setup.app(__file__), {})

    def forms(self) -> dict[str, Form]:
        return {"json": json_row("/predict/{model}", "input", '"output":')}


PEERS = [LitServe()]
