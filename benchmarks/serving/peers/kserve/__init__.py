"""KServe's Python server with a custom model, one worker."""

from benchmarks.serving.forms import Form, oip_binary, oip_grpc, oip_json
from benchmarks.serving.peers import Launch, Peer, Setup


class KServe(Peer):
    name = "kserve"
    label = "KServe's Python server"
    reports = ("kserve", "onnxruntime")

    def launch(self, setup: Setup) -> Launch:
        return Launch([*setup.app(__file__), f"--grpc_port={setup.grpc_port}"], {})

    def forms(self) -> dict[str, Form]:
        return {"json": oip_json(), "binary": oip_binary(), "grpc": oip_grpc()}


PEERS = [KServe()]
