"""The OpenAPI 3.1 document: every route of the router, and each loaded model's own types.

`operations.py` describes the routes; one that it does not know still appears, with its handler's docstring. A
model's inference routes appear once more under the model's name, with the schema of its signature.
"""

import re
from typing import Any

import model_server
from model_server.http.router import Handler
from model_server.models.repository import Repository, Served
from model_server.protocols.openapi.operations import MODEL_ROUTES, OPERATIONS, Operation
from model_server.protocols.openapi.schemas import COMPONENTS

_PARAMETER = re.compile(r"\{(\w+)\}")
_DESCRIPTION = (
    "Inference over the Open Inference Protocol, TensorFlow Serving's and MLflow's REST interfaces, and "
    "plain named features. NaN and infinities have no JSON form: they are refused in requests and null in "
    "answers; binary tensors carry them. Request bodies may be compressed (Content-Encoding: gzip or "
    "deflate)."
)
_TAGS = {
    "/v2": "Open Inference Protocol",
    "/v1": "TensorFlow Serving",
    "/predict": "Predict",
    "/invocations": "MLflow",
    "/ping": "MLflow",
    "/health": "MLflow",
    "/version": "MLflow",
}


def describe(repository: Repository, routes: list[tuple[str, str, Handler]]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for method, template, handler in routes:
        operation = OPERATIONS.get((method, template), Operation())
        paths.setdefault(template, {})[method.lower()] = _operation(method, template, handler, operation)
    handlers = {(method, template): handler for method, template, handler in routes}
    for entry in repository.entries():
        if entry.default is not None:
            _add_model(paths, entry.default, handlers)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "model-server",
            "version": model_server.__version__,
            "description": _DESCRIPTION,
        },
        "paths": paths,
        "components": COMPONENTS,
    }


def _add_model(
    paths: dict[str, dict[str, Any]], served: Served, handlers: dict[tuple[str, str], Handler]
) -> None:
    """The routes of one model under its own name, typed by its signature."""
    for route, make in MODEL_ROUTES.items():
        operation = make(served)
        if operation is None or route not in handlers:
            continue
        method, template = route
        path = template.replace("{model}", served.name)
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, handlers[route], operation)


def _operation(method: str, path: str, handler: Handler, operation: Operation) -> dict[str, Any]:
    names = _PARAMETER.findall(path)
    summary = (handler.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    described: dict[str, Any] = {
        "operationId": _identifier(method, path),
        "tags": [next((tag for start, tag in _TAGS.items() if path.startswith(start)), "Server")],
        "summary": operation.summary or summary,
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in names
    ] + list(operation.parameters)
    if parameters:
        described["parameters"] = parameters
    if operation.request is not None:
        content = {
            media_type: {"schema": schema, **({"example": operation.example} if operation.example else {})}
            for media_type, schema in operation.request.items()
        }
        described["requestBody"] = {"required": operation.request_required, "content": content}
    described["responses"] = _responses(operation, has_model=bool(names) or operation.runs)
    return described


def _responses(operation: Operation, has_model: bool) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "200": {
            "description": "The answer",
            "content": {media_type: {"schema": schema} for media_type, schema in operation.answer.items()},
        }
    }
    if has_model or operation.runs or operation.request is not None:
        # 400, 404, 408, 413, 415, 429 and so on differ in their status only.
        answers["4XX"] = {"$ref": "#/components/responses/Fault"}
        answers["5XX"] = {"$ref": "#/components/responses/ServerFault"}
    else:
        answers["4XX"] = {"$ref": "#/components/responses/Fault"}
        if operation.may_be_unready:
            answers["503"] = {
                "description": "Not ready, and why",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
    return answers


def _identifier(method: str, path: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", path)
    return "_".join((method.lower(), *words)) or method.lower()
