"""Everything that can go wrong with a request, and how each protocol says it.

Raise the class that names the cause; the protocol layer turns it into its own form. The message is written
where the fault is found and goes to the client as it is: what was wrong, where, what was expected.
"""


class ServerError(Exception):
    """A request that cannot be answered as asked; the base of all, and itself a fault of the server."""

    status = 500
    """HTTP status."""
    grpc_code = "INTERNAL"
    """Name of the `grpc.StatusCode`."""
    kind = "internal"
    """Label of the error in metrics and logs: few, fixed values."""
    retry_after_seconds: float | None = None
    """When the client may try again, if trying again helps."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds

    @property
    def message(self) -> str:
        """What the client is told."""
        return str(self.args[0])


class InvalidRequest(ServerError):
    """The request breaks the protocol or the model's signature."""

    status, grpc_code, kind = 400, "INVALID_ARGUMENT", "invalid_request"


class NotFound(ServerError):
    """No such route, model or version."""

    status, grpc_code, kind = 404, "NOT_FOUND", "not_found"


class MethodNotAllowed(ServerError):
    """The route exists, under other methods."""

    status, grpc_code, kind = 405, "UNIMPLEMENTED", "method_not_allowed"

    def __init__(self, message: str, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class PayloadTooLarge(ServerError):
    """The body is over the limit of the settings."""

    status, grpc_code, kind = 413, "RESOURCE_EXHAUSTED", "payload_too_large"


class UnsupportedMediaType(ServerError):
    """The body is in a form that this route does not read."""

    status, grpc_code, kind = 415, "INVALID_ARGUMENT", "unsupported_media_type"


class QueueFull(ServerError):
    """The model has as much work waiting as it may; other models may still answer."""

    status, grpc_code, kind = 429, "RESOURCE_EXHAUSTED", "queue_full"
    retry_after_seconds = 1.0


class ClientGone(ServerError):
    """The client closed the connection or cancelled the call; nobody reads this answer."""

    status, grpc_code, kind = 499, "CANCELLED", "client_gone"


class ModelFailed(ServerError):
    """The model raised while it computed."""

    kind = "model_failed"


class NotReady(ServerError):
    """The model or the server cannot answer now, and may soon."""

    status, grpc_code, kind = 503, "UNAVAILABLE", "not_ready"
    retry_after_seconds = 1.0


class BreakerOpen(NotReady):
    """The model failed so often that it is left alone for a while."""

    kind = "breaker_open"


class DeadlineExceeded(ServerError):
    """The client's time, or the model's limit, ran out first."""

    status, grpc_code, kind = 504, "DEADLINE_EXCEEDED", "deadline_exceeded"


class LoadFailed(ServerError):
    """A model could not be brought up: missing, corrupt, incompatible or refused."""

    grpc_code, kind = "FAILED_PRECONDITION", "load_failed"


class SettingsError(Exception):
    """The settings cannot be used; the message names the field and the mend."""
