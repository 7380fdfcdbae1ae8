"""What can go wrong between the provider and a cluster, each with words for the person who runs `pulumi`."""

from collections.abc import Mapping, Sequence
from typing import Any


class ProviderError(Exception):
    """Anything that is told to the user as it is, without a stack trace."""


class Unreachable(ProviderError):  # noqa: N818
    """No answer from the API server, or no usable kubeconfig."""


class NoSuchKind(ProviderError):  # noqa: N818
    """The API server does not serve this kind: most often its CustomResourceDefinition is missing."""

    def __init__(self, api_version: str, kind: str) -> None:
        super().__init__(
            f"the cluster does not serve {kind} in {api_version}: install the CustomResourceDefinition that "
            "defines it first, and let this resource depend on it where the same program makes it"
        )


class Cancelled(ProviderError):  # noqa: N818
    """The engine asked to stop."""


class NotReady(ProviderError):  # noqa: N818
    """The object is in the cluster, and is not (or not yet) what was asked for."""

    def __init__(
        self, message: str, reasons: Sequence[str] = (), live: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.reasons = list(reasons)
        self.live = live


class ApiError(ProviderError):
    """A refusal in the API server's own words."""

    def __init__(self, code: int, body: Mapping[str, Any]) -> None:
        self.code = code
        self.reason = str(body.get("reason") or "")
        self.message = str(body.get("message") or f"HTTP {code}")
        self.details: Mapping[str, Any] = body.get("details") or {}
        super().__init__(self.message)

    @property
    def causes(self) -> list[Mapping[str, Any]]:
        """The faults of single fields, each with `reason`, `message` and `field`."""
        return list(self.details.get("causes") or [])

    @property
    def namespace_missing(self) -> bool:
        """Whether the namespace that the object should be in does not exist."""
        return self.code == 404 and self.details.get("kind") == "namespaces"
