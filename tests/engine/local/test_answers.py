"""The main job on real data: the gateway answers what scikit-learn answers, on every held-out row."""

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from stacks.models.catalog import EXAMPLES
from tests.engine.local.stack import LocalStack

VARIANTS = {1: "blue", 2: "green"}


@pytest.mark.parametrize("version", VARIANTS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_held_out_row_is_answered_as_scikit_learn_does(full: LocalStack, name: str, version: int):
    estimator, (_, rows, _, _) = EXAMPLES[name].train(version), EXAMPLES[name].data()
    labels, probabilities = estimator.predict(rows), estimator.predict_proba(rows)
    address = urlsplit(full.url(name))
    connection = HTTPConnection(str(address.hostname), address.port)
    worst = 0.0
    for size in (1, 16, len(rows)):
        for begin in range(0, len(rows), size):
            part = slice(begin, begin + size)
            answer = infer(connection, name, VARIANTS[version], rows[part])
            assert answer["label"].tolist() == labels[part].tolist()
            worst = max(worst, float(np.abs(answer["probabilities"] - probabilities[part]).max()))
    print(f"\n[answers] {name} {version}: {len(rows)} rows thrice, furthest {worst:.1e} from scikit-learn's")
    assert worst <= 1e-4


def infer(connection: HTTPConnection, name: str, variant: str, rows: Any) -> dict[str, Any]:
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    headers = {"content-type": "application/json", "x-variant": variant}
    connection.request("POST", f"/v2/models/{name}/infer", json.dumps({"inputs": [tensor]}), headers)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    assert answer.headers["x-variant"] == variant
    outputs = json.loads(text)["outputs"]
    return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in outputs}


def test_nothing_of_the_stack_listens_beyond_loopback_even_while_it_starts(full: LocalStack, listeners):
    assert len({port for _, port in listeners}) >= 8, "the registry, the gateway, two routes, four servers"
    assert {address for address, _ in listeners} <= {"127.0.0.1", "::1"}
