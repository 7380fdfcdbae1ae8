"""Parameters of an inference request that mean the same over REST and gRPC."""

from typing import Any

from model_server.errors import InvalidRequest


def timeout_of(parameters: dict[str, Any]) -> float | None:
    """Seconds of the `timeout` parameter, which is in microseconds; 0 is none. Raises InvalidRequest."""
    timeout = parameters.get("timeout")
    if timeout is None or timeout == 0:
        return None
    if type(timeout) is not int or timeout < 0:
        raise InvalidRequest(f"parameters.timeout: expected microseconds, got {timeout!r:.50}")
    return timeout / 1e6


def priority_of(parameters: dict[str, Any]) -> int:
    """Triton's scale: 1 is the highest, 0 or nothing the default, which comes after every given one.

    Raises InvalidRequest.
    """
    priority = parameters.get("priority", 0)
    if type(priority) is not int or not 0 <= priority <= 2**32:
        raise InvalidRequest(f"parameters.priority: expected an integer of 0 and up, got {priority!r:.50}")
    return priority - 2**32 if priority else 0
