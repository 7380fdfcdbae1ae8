"""schemathesis against every route of /openapi.json: no 5xx, no hang, no growth; right answers afterwards.

MODEL_SERVER_FUZZ is the number of requests in all (20,000 take some five minutes of
CPU, most of it hypothesis); without it a short run.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from iris import ROWS, record
from running_server import Server
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from test_ndjson import resident_mib

REQUESTS = int(os.environ.get("MODEL_SERVER_FUZZ", "600"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
NAMES = ["iris", "person", "house", "picture", "scale", "echo", "constant"]
"""Models that answer whatever fits their signature; `lookup` fails on purpose, which is a 500 of its own."""
SPARE = ["none", "a%2Fb", "\N{SNOWMAN}"]
"""Models that are loaded and unloaded: none that others need."""


@pytest.fixture(scope="module")
def fuzzed(declared: list[dict], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = [model for model in declared if model["name"] in NAMES]
    server = Server(tmp_path_factory.mktemp("fuzzed"), {"models": models, "default_model": "iris"})
    try:
        yield server.until_ready()
    finally:
        server.close()


def aim(case: Any, name: str, version: str) -> Any:
    """Half of the time at a model that is there."""
    parameters = dict(case.path_parameters or {})
    if "model" in parameters:
        changes = "/v2/repository/models/" in case.path
        parameters["model"] = SPARE[len(name) % len(SPARE)] if changes else name or parameters["model"]
    if "version" in parameters and version:
        parameters["version"] = version
    case.path_parameters = parameters
    timeout = dict(case.headers or {}).get("X-Request-Timeout", "")
    if re.fullmatch(r"\s*[+-]?[\d._eE+-]+\s*", str(timeout)):
        # Time that is up is a 504, and rightly so.
        case.headers["X-Request-Timeout"] = "30"
    own = case.body.get("parameters") if isinstance(case.body, dict) else None
    if isinstance(own, dict):
        own.pop("timeout", None)
    return case


@pytest.mark.timeout(3600)
def test_whatever_is_sent(fuzzed: Server) -> None:
    schema = schemathesis.openapi.from_url(f"http://{fuzzed.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 50
    # Routes that take a body deserve most of the requests.
    weights = [8 if operation.body else 1 for operation in operations]
    sent: Counter[int] = Counter()
    memory: list[tuple[int, float]] = []
    failures: list[str] = []
    session = requests.Session()
    for number, (operation, weight) in enumerate(zip(operations, weights, strict=True)):
        share = max(4, REQUESTS * weight * 11 // (sum(weights) * 10))  # some have less to vary
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                examples_of(operation, mode, share // 2, number, session, sent)()
            except Unsatisfiable:
                continue  # nothing about this operation can be wrong
            except FailureGroup as group:
                failures += [f"{operation.label}: {failure!s:.1500}" for failure in group.exceptions]
        memory.append((sent.total(), resident_mib(fuzzed.process.pid)))
    print(f"\n{sent.total()} requests to {len(operations)} operations: {dict(sorted(sent.items()))}")
    assert not failures, "\n\n".join(failures)
    assert sent.total() >= REQUESTS
    assert sent[200] > REQUESTS * 0.05
    assert sent[400] > REQUESTS * 0.1
    print(
        f"memory: {memory[0][1]:.1f} MiB, after half {memory[len(memory) // 2][1]:.1f}, {memory[-1][1]:.1f}"
    )
    assert memory[-1][1] - memory[len(memory) // 4][1] < 30
    assert fuzzed.get("/v2/health/ready")[0] == 200
    assert fuzzed.post("/predict/iris", record(ROWS[0]))[1]["prediction"]["label"] == "setosa"


def examples_of(
    operation: Any, mode: GenerationMode, count: int, number: int, session: requests.Session, sent: Counter
) -> Callable[[], None]:
    strategy = operation.as_strategy(generation_mode=mode)

    @seed(number)
    @settings(
        max_examples=max(count, 2),
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy, st.sampled_from([*NAMES, ""]), st.sampled_from(["1", "1", ""]))
    def run(case: Any, name: str, version: str) -> None:
        aim(case, name, version)
        response = case.call(session=session, timeout=10)
        sent[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    return run
