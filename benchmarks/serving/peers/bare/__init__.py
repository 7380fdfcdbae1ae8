"""Upper bounds: nothing but HTTP, JSON and inference. No validation, no routing, no metrics, no limits."""

from benchmarks.serving.forms import Form, json_rows, raw
from benchmarks.serving.peers import Launch, Peer, Setup


class Bare(Peer):
    kind = "limit"
    several = False
    program = ""

    def launch(self, setup: Setup) -> Launch:
        return Launch([*setup.app(__file__), self.program], {})

    def forms(self) -> dict[str, Form]:
        return {"json": json_rows("/json", "inputs", '"outputs":'), "binary": raw("/raw")}


class Asgi(Bare):
    name = "bare-asgi"
    label = "bare uvicorn, raw ASGI + orjson"
    program = "asgi"
    reports = ("uvicorn", "orjson", "onnxruntime")


class Protocol(Bare):
    name = "bare-protocol"
    label = "bare asyncio protocol on uvloop + httptools"
    program = "protocol"
    reports = ("uvloop", "httptools", "orjson", "onnxruntime")


PEERS = [Asgi(), Protocol()]
