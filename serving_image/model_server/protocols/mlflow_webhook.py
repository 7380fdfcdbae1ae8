"""POST /v2/repository/webhook: MLflow tells that an alias moved or a version came.

Open only when MODEL_SERVER_WEBHOOK_SECRET is in the environment: the secret given to MLflow with the webhook.
MLflow signs `<delivery id>.<timestamp>.<body>` with it (HMAC-SHA256, Standard Webhooks). The message is only
a hint to look: what serves is decided by what the registry says, so a replayed one does no harm.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import time

from model_server.errors import NotFound, ServerError
from model_server.http.exchange import Exchange
from model_server.http.router import Router
from model_server.models.repository import Repository
from model_server.models.sources import registered_name
from model_server.process.state import ServerState
from model_server.protocols.oip_codec import parse_object
from model_server.telemetry.logs import log

_VERSION = "v1,"
_TOLERANCE_SECONDS = 300.0


class Unauthorized(ServerError):
    """The caller did not show that it knows the secret."""

    status, grpc_code, kind = 401, "UNAUTHENTICATED", "unauthorized"


class MlflowWebhook:
    """The route for the registry's webhooks."""

    def __init__(self, repository: Repository, state: ServerState) -> None:
        self._state = state
        self._secret = os.environ.get("MODEL_SERVER_WEBHOOK_SECRET", "")
        self._models: dict[str, list[str]] = {}
        for entry in repository.entries():
            registered = registered_name(entry.settings)
            if registered:
                self._models.setdefault(registered, []).append(entry.settings.name)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    def add_routes(self, router: Router) -> None:
        """Put it on the router."""
        router.add("POST", "/v2/repository/webhook", self.receive)

    def receive(self, exchange: Exchange) -> None:
        """Look at the models that the message is about; answer at once, as MLflow expects."""
        if not self._secret:
            raise NotFound("webhooks are off: set MODEL_SERVER_WEBHOOK_SECRET to the secret given to MLflow")
        self._check(exchange)
        data = parse_object(exchange.body).get("data")
        registered = data.get("name") if isinstance(data, dict) else None
        models = self._models.get(registered, []) if isinstance(registered, str) else []
        for model in models:
            self._look(model)
        exchange.respond_json(202, {"models": models})

    def _check(self, exchange: Exchange) -> None:
        """Raise Unauthorized unless this was signed with our secret, and lately."""
        headers = exchange.headers
        delivery, sent = headers.get(b"x-mlflow-delivery-id", b""), headers.get(b"x-mlflow-timestamp", b"")
        signed = b"%s.%s.%s" % (delivery, sent, exchange.body)
        digest = hmac.new(self._secret.encode(), signed, hashlib.sha256).digest()
        expected = _VERSION + base64.b64encode(digest).decode()
        given = headers.get(b"x-mlflow-signature", b"")
        if not hmac.compare_digest(given, expected.encode()):
            raise Unauthorized("X-MLflow-Signature does not fit the body and this server's webhook secret")
        if not sent.isdigit() or abs(time.time() - int(sent)) > _TOLERANCE_SECONDS:
            raise Unauthorized(
                f"X-MLflow-Timestamp is more than {_TOLERANCE_SECONDS:g} s from this server's clock"
            )

    def _look(self, model: str) -> None:
        """One look at a time; a message during a look means one more after it."""
        if model in self._tasks:
            self._again.add(model)
            return
        task = asyncio.get_running_loop().create_task(self._refresh(model))
        self._tasks[model] = task
        task.add_done_callback(lambda _: self._tasks.pop(model))

    async def _refresh(self, model: str) -> None:
        while True:
            self._again.discard(model)
            try:
                await self._state.refresh(model)
            except ServerError as error:
                log.warning("a webhook's change failed", extra={"model": model, "reason": error.message})
            if model not in self._again:
                return
