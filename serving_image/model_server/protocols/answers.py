"""Hands out answers to whoever compares versions; see `engine/taps.py`."""

from typing import Any

import orjson

from model_server.engine.service import InferenceService
from model_server.errors import InvalidRequest, NotFound
from model_server.http.exchange import Exchange
from model_server.http.router import Router
from model_server.protocols.oip_codec import parse_object

_JSON = b"application/json"
# Of the machine, or the pod, itself. A mesh's sidecar comes from other addresses of loopback.
_ITSELF = frozenset(("127.0.0.1", "::1", "::ffff:127.0.0.1"))


class Answers:
    """The route, where the settings ask for it."""

    def __init__(self, service: InferenceService) -> None:
        self._service = service

    def add_routes(self, router: Router) -> None:
        """Put it on the router."""
        router.add("POST", "/v2/models/{model}/answers", self.take)

    def take(self, exchange: Exchange, model: str) -> None:
        """Answers given since the last time, of this worker; and keep `share` of those to come."""
        # Other people's answers are nothing for clients: neither through a gateway nor from another pod.
        is_passed_on = b"x-forwarded-for" in exchange.headers or b"forwarded" in exchange.headers
        if is_passed_on or exchange.peer not in _ITSELF:
            raise NotFound("answers are told to those who ask from the server's own machine, without a proxy")
        self._service.repository.get(model, "")
        wanted = parse_object(exchange.body) if exchange.body else {}
        share, part = wanted.get("share", 1.0), wanted.get("slice_header", "")
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share <= 1:
            raise InvalidRequest(f"share: expected a number above 0, up to 1, got {share!r:.50}")
        if not isinstance(part, str):
            raise InvalidRequest(f"slice_header: expected a header's name, got {part!r:.50}")
        taken = [one.as_json() for one in self._service.take_answers(model, float(share), part)]
        document: dict[str, Any] = {"answers": taken}
        exchange.respond(200, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), _JSON)
