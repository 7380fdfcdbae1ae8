"""/openapi.json, which describes every route and the models that are loaded now, and /docs to read it.

Nothing here is imported before somebody asks.
"""

from model_server.http.exchange import JSON, Exchange
from model_server.http.router import Router
from model_server.models.repository import Repository

_HTML = b"text/html; charset=utf-8"
_OFFLINE = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)


class OpenApi:
    """The routes of the description."""

    def __init__(self, repository: Repository, router: Router) -> None:
        self._repository = repository
        self._router = router
        self._document = b""
        self._page = b""
        repository.on_change.append(self._forget)

    def add_routes(self, router: Router) -> None:
        """Put them on the router."""
        router.add("GET", "/openapi.json", self.document)
        router.add("GET", "/docs", self.page)

    def document(self, exchange: Exchange) -> None:
        """This description: OpenAPI 3.1."""
        if not self._document:
            import orjson

            from model_server.protocols.openapi.document import describe

            self._document = orjson.dumps(describe(self._repository, self._router.routes))
        exchange.respond(200, self._document, JSON)

    def page(self, exchange: Exchange) -> None:
        """A page to read the description and try requests; needs nothing but this server."""
        if not self._page:
            from pathlib import Path

            self._page = (Path(__file__).parent / "page.html").read_bytes()
        exchange.respond(200, self._page, _HTML, (_OFFLINE,))

    def _forget(self, _: str) -> None:
        """A model changed: so does the description."""
        self._document = b""
