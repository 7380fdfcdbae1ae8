"""The description of the server: whole, valid, true to the models that are loaded now; and the page."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from iris import FEATURES, ROWS, record
from running_server import Server


def document(server: Server) -> dict[str, Any]:
    status, found, headers = server.get("/openapi.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    return found


def schema_of(found: dict[str, Any], path: str) -> dict[str, Any]:
    schema = found["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return {**schema, "components": found["components"]}


def test_it_is_valid_openapi_3_1(server: Server) -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator, validate

    validate(document(server), cls=OpenAPIV31SpecValidator)


def test_the_example_of_a_model_is_a_request_that_it_answers(server: Server) -> None:
    paths = document(server)["paths"]
    asked = [path for path in paths if path.endswith("/infer") and "{" not in path]
    assert asked
    for path in asked:
        example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
        status, answer, _ = server.post(path, example)
        assert status == 200, answer


def test_every_route_of_the_server_is_there(server: Server) -> None:
    """The routes as the source adds them, so that a route that nobody describes is found."""
    package = Path(__import__("model_server").__file__).parent
    added: set[tuple[str, str]] = set()
    for file in package.rglob("*.py"):
        text = file.read_text()
        found = re.findall(r'router\.add\(\s*"([A-Z]+)", f?"([^"]+)"', text)
        added |= {(method, path) for method, path in found if "{base}" not in path and "{verb}" not in path}
    assert ("GET", "/metrics") in added
    assert len(added) > 20
    described = document(server)["paths"]
    for method, path in added:
        assert method.lower() in described[path.replace("{{", "{").replace("}}", "}")], path
    for path in (
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}/infer",
        "/v1/models/{model}:predict",
        "/v1/models/{model}/labels/{label}:classify",
    ):
        assert "post" in described[path]
    identifiers = [
        operation["operationId"] for methods in described.values() for operation in methods.values()
    ]
    assert len(identifiers) == len(set(identifiers))
    assert all(operation["summary"] for methods in described.values() for operation in methods.values())


GOOD = {
    "/predict/iris": [record(ROWS[0]), [record(row) for row in ROWS]],
    "/predict/house": [{"rooms": 1, "garden": False, "area": None}, {"rooms": 1, "garden": False}],
    "/predict/picture": [{"pixels": [[1, 2], [3, 4]]}],
    "/v1/models/iris:predict": [{"instances": ROWS}, {"inputs": {"X": ROWS}}],
    "/v2/models/iris/infer": [
        {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": ROWS[0]}]},
        {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [ROWS[0]]}], "id": "a"},
    ],
}
BAD = {
    "/predict/iris": [5, [], {}, {**record(ROWS[0]), "more": 1}, {**record(ROWS[0]), FEATURES[0]: "1"}],
    "/predict/house": [{"rooms": 1.5, "garden": False}, {"rooms": 1, "garden": 1}],
    "/predict/picture": [{"pixels": [[1, 2], [3]]}, {"pixels": 1}],
    "/v1/models/iris:predict": [{}, {"instances": []}, {"instances": [[1, 2, 3]]}, {"inputs": {"Y": ROWS}}],
    "/v2/models/iris/infer": [
        {},
        {"inputs": []},
        {"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 4], "data": ROWS[0]}]},
        {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 5], "data": ROWS[0]}]},
    ],
}


@pytest.mark.parametrize("path", GOOD)
def test_the_schema_and_the_server_agree(server: Server, path: str) -> None:
    found = document(server)
    schema = schema_of(found, path)
    answers = found["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    for body in GOOD[path]:
        jsonschema.Draft202012Validator(schema).validate(body)
        status, answer, _ = server.post(path, body)
        assert status == 200
        jsonschema.Draft202012Validator({**answers, "components": found["components"]}).validate(answer)
    for body in BAD[path]:
        assert list(jsonschema.Draft202012Validator(schema).iter_errors(body)), body
        assert server.post(path, json.dumps(body).encode())[0] == 400


def test_it_changes_with_the_models(
    start: Callable[..., Server], declared: list[dict], tmp_path: Path
) -> None:
    iris = next(Path(model["source"]) for model in declared if model["name"] == "iris")
    source = shutil.copytree(iris, tmp_path / "iris")
    server = start({"models": [{"name": "iris", "source": str(source)}]}).until_ready()
    assert set(schema_of(document(server), "/predict/iris")["anyOf"][0]["required"]) == set(FEATURES)
    description = source / "MLmodel"
    description.write_text(description.read_text().replace("sepal length", "sepal size"))
    assert server.post("/v2/repository/models/iris/load")[0] == 200
    assert "sepal size" in schema_of(document(server), "/predict/iris")["anyOf"][0]["required"]
    assert server.post("/predict/iris", record(ROWS[0]))[0] == 400
    assert server.post("/v2/repository/models/iris/unload")[0] == 200
    assert "/predict/iris" not in document(server)["paths"]
    assert "/predict/{model}" in document(server)["paths"]


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_nothing_but_this_server(server: Server) -> None:
    status, page, headers = server.get("/docs")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    text = page.decode()
    parsed = Page()
    parsed.feed(text)
    assert parsed.links == ["openapi.json"]
    assert not re.search(r"https?://|innerHTML|document\.write|@import", text)
