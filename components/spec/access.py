"""Who may ask an endpoint, how often, and how its servers are spared."""

from enum import Enum

from pydantic import Field, model_validator

from .base import Spec, reject


class Per(Enum):
    """A time over which requests are counted."""

    SECOND = "second"
    """One second."""
    MINUTE = "minute"
    """One minute."""
    HOUR = "hour"
    """One hour."""


class RateLimit(Spec):
    """How many requests each replica of the gateway lets through; more are answered 429."""

    requests: int = Field(ge=1, le=100_000_000, examples=[100], json_schema_extra={"unit": "requests"})
    """Requests in the time that `per` says."""

    per: Per | None = Field(default=Per.SECOND, strict=False, examples=["second"])
    """The time over which they are counted."""


class Jwt(Spec):
    """Only requests with a valid JSON Web Token of one issuer in `Authorization: Bearer` get through."""

    issuer: str = Field(examples=["https://issuer.example.com"])
    """Who must have issued it: the token's `iss`."""

    jwks_uri: str = Field(
        pattern=r"^https://[^\s/]+/\S*$",
        examples=["https://issuer.example.com/.well-known/jwks.json"],
        json_schema_extra={"kind": "an https:// address with a path"},
    )
    """Where the issuer's keys are."""

    audiences: list[str] | None = Field(default=None, min_length=1, examples=[["serving"]])
    """Who it must be meant for: one of these in the token's `aud`; anybody where nothing is said."""


class ApiKeys(Spec):
    """Only requests with a known key in a header get through."""

    secret: str = Field(examples=["client-keys"])
    """Name of a Secret in the estate's namespace: an entry a client, its name and its key."""

    header: str | None = Field(
        default="x-api-key",
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        examples=["x-api-key"],
        json_schema_extra={
            "kind": "a header's name: up to 63 lower-case letters, digits and `-`, a letter first"
        },
    )
    """The header that carries the key."""


class Access(Spec):
    """Who may ask: one of `jwt` and `api_keys`. The gateway checks it, where its class can."""

    jwt: Jwt | None = Field(
        default=None,
        examples=[
            {
                "issuer": "https://issuer.example.com",
                "jwks_uri": "https://issuer.example.com/.well-known/jwks.json",
            }
        ],
    )
    """By JSON Web Token."""

    api_keys: ApiKeys | None = Field(default=None, examples=[{"secret": "client-keys"}])
    """By API key."""

    @model_validator(mode="after")
    def _check(self) -> "Access":
        if (self.jwt is None) == (self.api_keys is None):
            reject([((), "say who may ask in one way: either `jwt` or `api_keys`")])
        return self


class Protection(Spec):
    """How servers are spared: the gateway stops sending to what cannot answer anyway."""

    max_requests: int | None = Field(
        default=None, ge=1, le=1_000_000, examples=[1000], json_schema_extra={"unit": "requests"}
    )
    """Circuit breaker: requests under way in a variant at the same time; more are answered 503 at once. The
    servers bound their own queues, so there is no such limit where nothing is said."""

    eject_after_errors: int | None = Field(
        default=None, ge=1, le=1000, examples=[5], json_schema_extra={"unit": "errors in a row"}
    )
    """Outlier detection: answers of 500 and above in a row after which a replica is left alone for a
    while."""

    eject_s: int | None = Field(
        default=30, ge=1, le=3600, examples=[30], json_schema_extra={"unit": "seconds"}
    )
    """How long it is left alone the first time; longer each further time."""
