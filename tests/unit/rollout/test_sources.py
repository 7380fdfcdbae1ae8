"""Numbers from Envoy and from Prometheus; both are stand-ins here."""

import json
import math
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from stacks.rollout.errors import SourceDownError
from stacks.rollout.readings import Reading
from stacks.rollout.sources.envoy import EnvoyStatistics
from stacks.rollout.sources.exposition import series
from stacks.rollout.sources.prometheus import Prometheus

ENVOY = """
# TYPE envoy_cluster_upstream_rq_completed counter
envoy_cluster_upstream_rq_completed{envoy_cluster_name="tiny/blue/http"} 90
envoy_cluster_upstream_rq_completed{envoy_cluster_name="tiny/blue/grpc"} 10
envoy_cluster_upstream_rq_completed{envoy_cluster_name="tiny/green/http"} 5
envoy_cluster_upstream_rq_completed{envoy_cluster_name="tiny/green/grpc"} 7
envoy_cluster_upstream_rq_completed{envoy_cluster_name="other/green/http"} 7
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="tiny/green/http"} 2
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="tiny/green/http"} 3
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="tiny/green/grpc"} 1
envoy_cluster_canary_upstream_rq_completed{envoy_cluster_name="tiny/blue/http"} 4
envoy_cluster_grpc_3{envoy_cluster_name="tiny/green/grpc"} 2
envoy_cluster_grpc_ModelInfer_13{envoy_cluster_name="tiny/green/grpc"} 3
envoy_cluster_grpc_ModelInfer_total{envoy_cluster_name="tiny/green/grpc"} 7
envoy_cluster_grpc_14{envoy_cluster_name="tiny/green/grpc"} 1
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="tiny/green/http",le="1"} 1
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="tiny/green/http",le="2.5"} 4
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="tiny/green/http",le="+Inf"} 5
"""


class Server(BaseHTTPRequestHandler):
    status: ClassVar[int] = 200
    asked: ClassVar[list[Any]] = []

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.asked.append((parts.path, parse_qs(parts.query)))
        self.answer(
            ENVOY if parts.path.startswith("/stats") else prometheus(parse_qs(parts.query)["query"][0])
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.asked.append((self.path, json.loads(body), self.headers.get("authorization")))
        self.answer("ok")

    def answer(self, text: str) -> None:
        self.send_response(self.status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


def prometheus(query: str) -> str:
    """The same numbers in the form of an instant query."""
    (wanted,) = re.findall('__name__=~"(.+?)"', query)
    result = [
        {"metric": {"__name__": one.name, **one.labels}, "value": [0, str(one.value)]}
        for one in series(ENVOY)
        if re.fullmatch(wanted, one.name) and one.labels["envoy_cluster_name"].startswith("tiny/")
    ]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.fixture
def server() -> Iterator[str]:
    Server.status, Server.asked = 200, []
    listening = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()


@pytest.mark.parametrize("source", [EnvoyStatistics, Prometheus])
def test_both_protocols_are_counted_together_and_other_endpoints_are_not(server: str, source: Any):
    found = source(server).read("tiny", ["blue", "green"])
    assert found.edges == [1, 2.5, math.inf]
    assert found.variants["blue"].requests == 100
    assert found.variants["blue"].failures == 4, "what a fallback answered, the variant did not"
    assert found.variants["green"] == Reading(12, 6, [1, 3, 1]), (
        "2 over HTTP; 4 over gRPC, where the one that the gateway failed is in both counts, and what the "
        "client did wrong in none"
    )


@pytest.mark.parametrize("source", [EnvoyStatistics, Prometheus])
def test_a_source_that_does_not_answer_says_so(server: str, source: Any):
    Server.status = 503
    with pytest.raises(SourceDownError, match="503"):
        source(server).read("tiny", ["blue", "green"])
    with pytest.raises(SourceDownError):
        source("http://127.0.0.1:1").read("tiny", ["blue"])


def test_counters_that_began_anew_are_counted_from_nothing():
    before = Reading(100, 5, [60, 40])
    assert Reading(130, 6, [80, 50]).since(before) == Reading(30, 1, [20, 10])
    assert Reading(30, 1, [20, 10]).since(before) == Reading(30, 1, [20, 10])


def test_requests_are_counted_where_the_buckets_are_others_than_before():
    assert Reading(130, 6, [80, 30, 20]).since(Reading(100, 5, [100])) == Reading(30, 1, [])
