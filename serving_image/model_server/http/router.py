"""From method and path to handler, and from errors to answers."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote

import orjson

from model_server.errors import InvalidRequest, MethodNotAllowed, NotFound, ServerError, UnsupportedMediaType
from model_server.http.exchange import Exchange, Header
from model_server.telemetry.logs import log

Handler = Callable[..., Coroutine[Any, Any, None] | None]
"""Called with the exchange and the path's parameters. A plain function answers now or from a callback; a
coroutine function runs as a task, which is cancelled when the client leaves."""

_CACHE_SIZE = 4096
_CACHED_TARGET_BYTES = 512
_SERVER_FAULT = 500
_UNEXPECTED = "a request failed in an unexpected way"
_INTERNAL_ERROR = b'{"error":"internal error; the server\'s log has the details"}'


class Router:
    """The routes of the HTTP port."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, ...], dict[bytes, Handler]] = {}
        self._cache: dict[tuple[bytes, bytes], tuple[Handler, tuple[str, ...]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._streaming: set[Handler] = set()

    def add(self, method: str, template: str, handler: Handler, *, streams: bool = False) -> None:
        """Route e.g. GET `/v2/models/{model}/ready`; parameters are handed over in their order.

        A parameter is one path segment. A segment can have fixed text after its parameter:
        `/v1/models/{model}:predict`. `streams`: the handler takes `exchange.incoming` where there is one.
        """
        segments = tuple(template.encode().decode("ascii").strip("/").split("/"))
        self._routes.setdefault(segments, {})[method.encode()] = handler
        if streams:
            self._streaming.add(handler)

    @property
    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, template and handler of every route."""
        return [
            (method.decode(), "/" + "/".join(segments), handler)
            for segments, methods in self._routes.items()
            for method, handler in methods.items()
        ]

    def dispatch(self, exchange: Exchange) -> None:
        """Run the handler of a request; every fault becomes an answer."""
        try:
            found = self._cache.get((exchange.method, exchange.target))
            if found is None:
                found = self._find(exchange)
            handler, parameters = found
            if exchange.incoming is not None and handler not in self._streaming:
                path = exchange.path.decode("latin-1")
                respond_error(exchange, UnsupportedMediaType(f"{path!r:.200} does not take NDJSON"))
                return
            work = handler(exchange, *parameters)
            if work is not None:
                self._run_task(exchange, work)
        except ServerError as error:
            respond_error(exchange, error)
        except Exception:
            log.exception(_UNEXPECTED, extra=_about(exchange))
            exchange.respond(_SERVER_FAULT, _INTERNAL_ERROR)

    def _find(self, exchange: Exchange) -> tuple[Handler, tuple[str, ...]]:
        path = exchange.path
        if not path.startswith(b"/"):
            raise InvalidRequest("the request target must be a path that starts with '/'")
        segments = path.decode("latin-1").strip("/").split("/")
        allowed: set[bytes] = set()
        # A literal route comes before one with parameters: /v2/models/stats is no model's name.
        literal = tuple(segments)
        candidates = [literal, *self._routes] if literal in self._routes else self._routes
        for template in candidates:
            parameters = _match(template, segments)
            if parameters is None:
                continue
            methods = self._routes[template]
            method = b"GET" if exchange.method == b"HEAD" else exchange.method
            handler = methods.get(method)
            if handler is None:
                allowed.update(methods)
                continue
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            if len(exchange.target) <= _CACHED_TARGET_BYTES:
                self._cache[exchange.method, exchange.target] = (handler, parameters)
            return handler, parameters
        shown = path.decode("latin-1")
        if allowed:
            names = tuple(sorted(method.decode() for method in allowed))
            raise MethodNotAllowed(f"{shown!r:.200} takes {', '.join(names)}", names)
        raise NotFound(f"no such route: {shown!r:.200}")

    def _run_task(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(_guard(exchange, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        exchange.on_gone(task.cancel)


def respond_error(exchange: Exchange, error: ServerError) -> None:
    """Answer with `{"error": …}` and the status of the error."""
    headers: list[Header] = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_seconds))))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if error.status == _SERVER_FAULT:
        log.error(error.message, extra={"kind": error.kind, **exchange.log_fields})
    exchange.respond(error.status, orjson.dumps({"error": error.message}), headers=headers)


def _about(exchange: Exchange) -> dict[str, str]:
    return {**exchange.log_fields, "target": exchange.target.decode("latin-1")[:200]}


async def _guard(exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except ServerError as error:
        respond_error(exchange, error)
    except Exception:
        log.exception(_UNEXPECTED, extra=_about(exchange))
        exchange.respond(_SERVER_FAULT, _INTERNAL_ERROR)


def _match(template: tuple[str, ...], segments: list[str]) -> tuple[str, ...] | None:
    """The parameters if the path fits the template."""
    if len(template) != len(segments):
        return None
    parameters: list[str] = []
    for part, segment in zip(template, segments, strict=True):
        if not part.startswith("{"):
            if part != segment:
                return None
            continue
        suffix = part.partition("}")[2]
        if not segment.endswith(suffix) or len(segment) == len(suffix):
            return None
        value = segment.removesuffix(suffix)
        if ":" in value:
            # `/v1/models/m:predict` is a verb of m, not a model of that name.
            return None
        parameters.append(unquote(value))
    return tuple(parameters)
