"""What the JSON protocols share: reading the body, the deadline, running the model, the model by default."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import orjson

from model_server.engine.call import Call
from model_server.engine.service import InferenceService
from model_server.errors import InvalidRequest, ModelFailed, NotFound, ServerError, UnsupportedMediaType
from model_server.http.exchange import JSON, Exchange
from model_server.http.router import respond_error
from model_server.models.repository import Served
from model_server.telemetry.logs import log
from model_server.tensors import Array

_UNSAID = frozenset({"", "application/x-www-form-urlencoded"})
"""Content types that clients send without meaning them: none, and what curl puts on `-d`."""


def json_body(exchange: Exchange) -> Any:
    """The body, which must be JSON. Raises InvalidRequest, UnsupportedMediaType.

    NaN and Infinity are not JSON and are refused; binary tensors of /v2 carry them.
    """
    content_type = media_type(exchange)
    if content_type not in _UNSAID and content_type != "application/json" and content_type[-5:] != "+json":
        raise UnsupportedMediaType(f"Content-Type {content_type!r:.100}: expected application/json")
    return loads(exchange.body)


def loads(body: bytes) -> Any:
    """Parse JSON. Raises InvalidRequest."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}" if body else "the body is empty") from None


def media_type(exchange: Exchange) -> str:
    """The Content-Type without its parameters, in lower case; empty if there is none.

    Raises UnsupportedMediaType for a charset other than UTF-8.
    """
    head, _, parameters = exchange.headers.get(b"content-type", b"").decode("latin-1").partition(";")
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "charset" and value.strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise UnsupportedMediaType(f"charset {value!r:.50}: expected utf-8")
    return head.strip().lower()


def deadline_of(exchange: Exchange) -> float | None:
    """The client's X-Request-Timeout (seconds) on the monotonic clock. Raises InvalidRequest."""
    header = exchange.headers.get(b"x-request-timeout")
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidRequest(f"X-Request-Timeout: expected seconds, got {header.decode('latin-1')!r:.50}")
    return exchange.received + seconds


def default_model(service: InferenceService, exchange: Exchange, configured: str | None) -> Served:
    """Who answers where the path names no model.

    The headers X-Model-Name and X-Model-Version decide, else the setting, else there must be only one model.
    Raises NotFound, NotReady, InvalidRequest.
    """
    name = exchange.headers.get(b"x-model-name", b"").decode("latin-1") or configured
    version = exchange.headers.get(b"x-model-version", b"").decode("latin-1")
    if not name:
        entries = service.repository.entries()
        if len(entries) != 1:
            known = ", ".join(repr(entry.settings.name) for entry in entries) or "none"
            raise NotFound(
                f"which model? this server has {known}; name one in the X-Model-Name header "
                "or set default_model in the settings"
            )
        name = entries[0].settings.name
    return service.repository.get(name, version)


def answer(
    service: InferenceService,
    exchange: Exchange,
    served: Served,
    inputs: dict[str, Array],
    form: Callable[[list[Array]], object],
    outputs: tuple[str, ...] | None = None,
    *,
    signed: bool = False,
) -> None:
    """Run the model, answer with the JSON document that `form` makes of its outputs.

    `signed`: the document has members `model` and `version`, and room for what the degradation ladder says.
    Raises InvalidRequest and what InferenceService.submit raises.
    """
    meters = served.lane.meters

    def finish(call: Call) -> None:
        began = monotonic()
        error = call.error
        try:
            document = None if error else form(call.results)
            by = call.degraded
            if by is not None and signed and isinstance(document, dict):
                document = {**document, "model": by.model, "version": by.version, **by.parameters()}
            body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        except ServerError as fault:
            error = fault
        except Exception:
            log.exception("an answer could not be written", extra={"model": served.name})
            error = ModelFailed("internal error; the server's log has the details")
        if error is not None:
            meters.failed(error.kind)
            respond_error(exchange, error)
            return
        ended = monotonic()
        meters.decode.observe(call.queued - call.received)
        meters.encode.observe(ended - began)
        meters.request.observe(ended - call.received)
        exchange.respond(200, body, JSON)

    names = served.lane.signature.output_names if outputs is None else outputs
    deadline = deadline_of(exchange)
    call = Call(inputs, names, finish, received=exchange.received, deadline=deadline, caller=exchange)
    service.submit(served, call)
    exchange.on_gone(call.cancel)


@contextmanager
def errors_counted(served: Served) -> Iterator[None]:
    """Count what a request for this model is refused for."""
    try:
        yield
    except ServerError as error:
        served.lane.meters.failed(error.kind)
        raise


def member(document: object, name: str, kind: type, default: object = None) -> Any:
    """A member of a JSON object by its type. Raises InvalidRequest; `default` when it is missing or null."""
    value = document.get(name) if isinstance(document, dict) else None
    if value is None:
        return default
    if type(value) is not kind:
        names: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}
        raise InvalidRequest(f"{name}: got {value!r:.60}, expected {names[kind]}")
    return value
