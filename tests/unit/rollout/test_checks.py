"""What a candidate is asked before it gets any requests, and what outcomes are read."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.spec import validate
from components.spec.rollout import AgreementAnalysis
from stacks.rollout import checks, outcomes
from stacks.rollout.errors import RolloutError
from stacks.rollout.placement import PulumiStack, Variant


class Model(BaseHTTPRequestHandler):
    """y = 2 x, or 3 x for a negative x; fails for 0."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        x = body["inputs"][0]["data"][0]
        wrong = self.server.server_port == getattr(self.server, "wrong_port", 0) and x < 0
        output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [(3 if wrong else 2) * x]}
        text = json.dumps({"outputs": [output]} if x else {"error": "x is 0"}).encode()
        self.send_response(200 if x else 400)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


def serve(wrong: bool) -> HTTPServer:
    server = HTTPServer(("127.0.0.1", 0), Model)
    if wrong:
        server.wrong_port = server.server_port  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def variants() -> Iterator[dict[str, Variant]]:
    servers = {"right": serve(wrong=False), "wrong": serve(wrong=True)}
    yield {
        name: Variant("m", 0, (f"http://127.0.0.1:{server.server_port}",)) for name, server in servers.items()
    }
    for server in servers.values():
        server.shutdown()


def request(x: float, expected: float | None = None, part: str = "") -> dict[str, Any]:
    tensor = {"datatype": "FP32", "shape": [1]}
    found: dict[str, Any] = {"inputs": [{"name": "x", "data": [x], **tensor}], "slice": part}
    if expected is not None:
        found["outputs"] = [{"name": "y", "data": [expected], **tensor}]
    return found


def test_golden_requests_find_the_one_wrong_answer(tmp_path: Path, variants: dict[str, Variant]):
    file = tmp_path / "golden.json"
    file.write_text(json.dumps([request(1, 2), request(-1, -2)]))
    assert checks.golden(file, "tiny", variants["right"]) is None
    why = checks.golden(file, "tiny", variants["wrong"])
    assert why
    assert why.startswith("golden request 1 at http")


def test_a_candidate_that_fails_a_golden_request_says_why(tmp_path: Path, variants: dict[str, Variant]):
    file = tmp_path / "golden.json"
    file.write_text(json.dumps([request(0, 0)]))
    assert "x is 0" in str(checks.golden(file, "tiny", variants["right"]))


def test_agreement_tells_which_slices_disagree(tmp_path: Path, variants: dict[str, Variant]):
    file = tmp_path / "requests.jsonl"
    lines = [request(x, part="negative" if x < 0 else "positive") for x in (1, 2, 3, -1, 4, 5, 6, 7, 8, 9)]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    limits = validate(AgreementAnalysis, {"requests": "requests.jsonl", "min_percent": 95.0})
    good, found = checks.agreement(limits, file, "tiny", variants["wrong"], variants["right"], 0.05)
    assert not good
    assert (found["pairs"], found["agreed"]) == (10, 9)
    assert found["slices"] == [["negative", 0, 1]]
    assert found["low"] < 90 < found["high"]
    lenient = validate(AgreementAnalysis, {"requests": "requests.jsonl", "min_percent": 90.0})
    assert checks.agreement(lenient, file, "tiny", variants["wrong"], variants["right"], 0.05)[0]


@pytest.mark.parametrize(
    ("text", "message"), [(None, "there is no file"), ("{", "expected a JSON list"), ("[1]", "with `inputs`")]
)
def test_a_file_of_requests_that_cannot_be_read_is_explained(
    tmp_path: Path, variants: dict[str, Variant], text: str | None, message: str
):
    file = tmp_path / "golden.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RolloutError, match=message):
        checks.golden(file, "tiny", variants["right"])


def test_outcomes_are_those_of_this_rollout_and_of_its_two_variants(tmp_path: Path):
    file = tmp_path / "outcomes.jsonl"
    file.write_text('{"variant": "green", "value": 1}\n')
    since = outcomes.size(file)
    with file.open("a") as lines:
        lines.write('{"variant": "green", "value": 0.5}\nnonsense\n{"variant": "red", "value": 1}\n')
        lines.write('{"variant": "blue", "value": 0}\n{"variant": "blue", "value": 1')
    found = outcomes.OutcomeFiles(file, None, "green", "blue").read(since, 0)
    assert found == outcomes.Outcomes({"candidate": [0.5], "stable": [0.0]})
    nothing = outcomes.OutcomeFiles(tmp_path / "none", None, "green", "blue").read(0, 0)
    assert nothing.values == {"candidate": [], "stable": []}


def test_a_project_or_stack_that_is_not_there_is_explained(tmp_path: Path):
    with pytest.raises(RolloutError, match=r"there is no Pulumi\.yaml"):
        PulumiStack(tmp_path, "local", "tiny", tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: sample\nstackConfigDir: stacks\n")
    with pytest.raises(RolloutError, match=r"no file stacks/Pulumi\.local\.yaml"):
        PulumiStack(tmp_path, "local", "tiny", tmp_path)
