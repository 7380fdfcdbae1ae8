"""An endpoint: one address behind which variants of a model answer."""

from collections.abc import Iterator
from enum import Enum

from pydantic import Field, model_validator

from .access import Access, Protection, RateLimit
from .base import Problem, Spec, in_yaml, near_miss, reject
from .fallback import FallbackRung, wrong_order
from .names import VARIANT, wrong_name
from .resources import Placement, Resources
from .rollout import Rollout, Users, wrong_rollout
from .scaling import Scaling
from .slo import Slo
from .sources import MODEL, wrong_model

# A pin by one of these would break the request, or pin requests that nobody meant to pin.
_TAKEN_HEADERS = {
    "connection": "it belongs to one hop and is never passed on",
    "keep-alive": "it belongs to one hop and is never passed on",
    "proxy-connection": "it belongs to one hop and is never passed on",
    "te": "it belongs to one hop and is never passed on",
    "trailer": "it belongs to one hop and is never passed on",
    "transfer-encoding": "it belongs to one hop and is never passed on",
    "upgrade": "it belongs to one hop and is never passed on",
    "host": "every request has it, as the server's address",
    "content-length": "every request has it, as the size of its body",
    "content-type": "every request has it, as the format of its body",
    "content-encoding": "it says how the body is packed",
    "accept": "clients send it to say which formats they take",
    "accept-encoding": "clients send it to say how they unpack answers",
    "authorization": "it carries credentials, which must not choose a variant",
    "proxy-authorization": "it carries credentials, which must not choose a variant",
    "cookie": "it carries sessions, which must not choose a variant",
    "x-request-id": "the gateway sets it",
    "x-forwarded-for": "the gateway sets it",
    "x-forwarded-proto": "the gateway sets it",
    "grpc-timeout": "gRPC sets it",
}
_TAKEN_PREFIXES = {"x-envoy-": "the gateway sets it", "grpc-": "gRPC sets it", "sec-": "browsers set it"}


class Runtime(Enum):
    """The model server that runs a variant."""

    BUNDLED = "bundled"
    """The project's own server (`serving_image/`): ONNX models over the Open Inference Protocol."""


class Variant(Spec):
    """One version of the model behind an endpoint, with servers of its own."""

    model: str = Field(examples=["models:/breast-cancer/1"], json_schema_extra={"pattern": MODEL.pattern})
    """The model to serve: `models:/name/version` or `models:/name@alias` in the registry, a folder or
    file on this machine, or a `runs:/`, `s3://`, `gs://`, `http(s)://` address. On a cluster also `oci://`
    and an image whose files are the model's: it is mounted, and nothing is downloaded by the server."""

    runtime: Runtime | None = Field(default=Runtime.BUNDLED, strict=False, examples=["bundled"])
    """The model server that runs it."""

    scaling: Scaling | None = Field(default=None, examples=[{"min": 2}])
    """Replicas of this variant, where they differ from the endpoint's."""

    resources: Resources | None = Field(default=None, examples=[{"cpu": 4.0, "gpus": 1}])
    """What each replica of this variant is given, where it differs from the endpoint's."""

    placement: Placement | None = Field(default=None, examples=[{"node_labels": {"pool": "gpu"}}])
    """Where replicas of this variant may run, where it differs from the endpoint's."""

    @model_validator(mode="after")
    def _check(self) -> "Variant":
        reject((("model",), message) for message in wrong_model(self.model))
        return self


class Shadow(Spec):
    """A copy of some requests for a variant whose answers no client ever sees."""

    variant: str = Field(examples=["green"])
    """The variant that gets the copies. It must not have a share of the traffic as well."""

    percent: float | None = Field(
        default=100.0, ge=0.0001, le=100, examples=[10], json_schema_extra={"unit": "per cent"}
    )
    """Share of the requests to copy."""


class Endpoint(Spec):
    """One address behind which variants of a model answer; the same block on every platform."""

    variants: dict[str, Variant] = Field(
        min_length=1,
        examples=[{"blue": {"model": "models:/breast-cancer/1"}}],
        json_schema_extra={"propertyNames": {"pattern": VARIANT.pattern}},
    )
    """The variants by name: up to 20 lower-case letters, digits and `-`, a letter first, e.g. `blue` and
    `green`."""

    traffic: dict[str, int] | None = Field(
        default=None,
        min_length=1,
        examples=[{"blue": 90, "green": 10}],
        json_schema_extra={
            "unit": "per cent",
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 100},
        },
    )
    """Each variant's share of the requests; the shares are whole numbers that add up to 100, and a variant
    that is not named gets none. May be left out where there is one variant."""

    shadow: Shadow | None = Field(default=None, examples=[{"variant": "green", "percent": 10}])
    """Copy a share of the requests to a variant, to see how it would do."""

    rollout: Rollout | None = Field(default=None, examples=[{"strategy": "canary"}])
    """Let evidence move the weights, with `estate rollout`; `traffic` is then only where they begin."""

    pin_header: str | None = Field(
        default="x-variant",
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        examples=["x-variant"],
        json_schema_extra={
            "kind": "a header's name: up to 63 lower-case letters, digits and `-`, a letter first",
            "not": {"pattern": f"^({'|'.join(_TAKEN_HEADERS)})$|^({'|'.join(_TAKEN_PREFIXES)})"},
        },
    )
    """A request with this header goes to the variant that the header's value names. Headers that HTTP, gRPC
    or the gateway use themselves are refused."""

    affinity: Users | None = Field(default=None, examples=[{"header": "x-user"}])
    """Let requests of one user stay with one variant for as long as the weights stay as they are, and on a
    cluster with one replica of it, too. Replicas may then be loaded less evenly."""

    timeout_ms: int | None = Field(
        default=30_000, ge=1, le=3_600_000, examples=[30_000], json_schema_extra={"unit": "milliseconds"}
    )
    """How long a request may take at the gateway, retries included."""

    retries: int | None = Field(default=3, ge=0, le=10, examples=[3], json_schema_extra={"unit": "tries"})
    """How often the gateway sends a request again whose connection failed or was cut. Answers, errors
    included, are never retried."""

    scaling: Scaling | None = Field(default_factory=Scaling, examples=[{"min": 2, "max": 8}])
    """Replicas of each variant that does not say its own."""

    resources: Resources | None = Field(
        default_factory=Resources, examples=[{"cpu": 2.0, "memory_mib": 4096}]
    )
    """What each replica of a variant is given that does not say its own."""

    placement: Placement | None = Field(default=None, examples=[{"node_labels": {"pool": "serving"}}])
    """Where replicas of a variant may run that does not say its own; anywhere where nothing is said."""

    fallback: list[FallbackRung] | None = Field(
        default=None, min_length=1, max_length=8, examples=[[{"cached_s": 60}, {"value": {"y": 0}}]]
    )
    """What answers in a variant's place when its model fails, is too slow, or has too much to do: the first
    of these that can. Of the time that a request has left, a fifth is kept for them. What is wrong with a
    request itself is answered as ever."""

    slo: Slo | None = Field(default=None, examples=[{"latency_p99_ms": 100, "error_rate": 0.001}])
    """What the endpoint promises."""

    access: Access | None = Field(default=None, examples=[{"api_keys": {"secret": "client-keys"}}])
    """Who may ask; everybody who reaches the gateway where nothing is said."""

    rate_limit: RateLimit | None = Field(default=None, examples=[{"requests": 100, "per": "second"}])
    """How often it may be asked."""

    protection: Protection | None = Field(default=None, examples=[{"eject_after_errors": 5}])
    """How its servers are spared."""

    @model_validator(mode="after")
    def _check(self) -> "Endpoint":
        rollout = wrong_rollout(self.rollout, self.variants, self.shadow is not None)
        own = (
            *self._wrong_names(),
            *self._wrong_traffic(),
            *self._wrong_shadow(),
            *self._wrong_pin(),
            *self._wrong_affinity(),
            *self._wrong_fallback(),
        )
        reject([*own, *rollout])
        return self

    def _wrong_names(self) -> Iterator[Problem]:
        for name in self.variants:
            if not VARIANT.fullmatch(name):
                yield ("variants", name), wrong_name(name, VARIANT)

    def _wrong_traffic(self) -> Iterator[Problem]:
        if self.traffic is None:
            if len(self.variants) > 1:
                example = dict.fromkeys(self.variants, 0) | {next(iter(self.variants)): 100}
                yield (
                    ("traffic",),
                    f"say how requests are divided among the variants, e.g. {in_yaml(example)}",
                )
            return
        unknown = [name for name in self.traffic if name not in self.variants]
        for name in unknown:
            yield ("traffic", name), _no_variant(name, self.variants)
        wrong = {name: share for name, share in self.traffic.items() if not 0 <= share <= 100}
        for name, share in wrong.items():
            yield ("traffic", name), f"must be between 0 and 100 per cent, got {in_yaml(share)}"
        total = sum(self.traffic.values())
        if total != 100 and not wrong:
            yield (
                ("traffic",),
                f"the shares must add up to 100 per cent, but {in_yaml(self.traffic)} adds up to {total}",
            )

    def _wrong_shadow(self) -> Iterator[Problem]:
        if self.shadow is None:
            return
        name = self.shadow.variant
        if name not in self.variants:
            yield ("shadow", "variant"), _no_variant(name, self.variants)
        elif self.shares.get(name) == 100 and len(self.variants) == 1:
            yield (
                ("shadow", "variant"),
                f"`{name}` answers all requests and cannot be their shadow as well; add a second variant",
            )
        elif self.shares.get(name):
            yield (
                ("shadow", "variant"),
                f"`{name}` also gets {self.shares[name]} % of the traffic, but a shadow's answers are thrown "
                f"away; set traffic.{name} to 0 or name another variant",
            )

    def _wrong_pin(self) -> Iterator[Problem]:
        name = self.pin_header or ""
        taken = _TAKEN_HEADERS.get(name) or next(
            (why for prefix, why in _TAKEN_PREFIXES.items() if name.startswith(prefix)), None
        )
        if taken:
            yield (
                ("pin_header",),
                f"`{name}` cannot choose a variant: {taken}; use a header of your own, e.g. x-variant",
            )

    def _wrong_affinity(self) -> Iterator[Problem]:
        if self.affinity and self.rollout:
            yield (
                ("affinity",),
                "a rollout says itself whether users stay with their variant; leave it out, and see "
                "`rollout.users`",
            )

    def _wrong_fallback(self) -> Iterator[Problem]:
        for path, message in wrong_order(self.fallback or []):
            yield ("fallback", *path), message
        for index, rung in enumerate(self.fallback or []):
            place = ("fallback", index, "variant")
            if rung.variant is None:
                continue
            if rung.variant not in self.variants:
                yield place, _no_variant(rung.variant, self.variants)
            elif len(self.variants) == 1:
                yield place, f"`{rung.variant}` is the only variant; add the one that it is to stand in for"
            elif self.rollout:
                yield (
                    place,
                    "a rollout would not see that a variant fails for which another one answers; leave it "
                    "out: the rollout takes requests away from a variant that fails",
                )

    @property
    def stand_in(self) -> str | None:
        """The variant that answers when another one does not."""
        return next((rung.variant for rung in self.fallback or [] if rung.variant), None)

    def rungs_of(self, variant: str) -> list[FallbackRung]:
        """What a variant's own servers answer with: up to the variant that stands in for it, whose servers
        have the rest."""
        rungs = self.fallback or []
        if self.stand_in in (None, variant):
            return [rung for rung in rungs if rung.variant is None]
        return rungs[: [rung.variant for rung in rungs].index(self.stand_in)]

    @property
    def users(self) -> Users | None:
        """What tells one user from another, where users stay with their variant."""
        return self.affinity or (self.rollout.users if self.rollout else None)

    @property
    def scalings(self) -> Iterator[tuple[tuple[str, ...], Scaling]]:
        """Each block that says how many replicas there are, with the path to it."""
        if self.scaling:
            yield ("scaling",), self.scaling
        for name, variant in self.variants.items():
            if variant.scaling:
                yield ("variants", name, "scaling"), variant.scaling

    @property
    def shares(self) -> dict[str, int]:
        """Each variant's share of the requests in per cent, those with none included."""
        if self.rollout and self.rollout.weights:
            return {name: self.rollout.weights.get(name, 0) for name in self.variants}
        if self.traffic is None:
            return dict.fromkeys(self.variants, 100)
        return {name: self.traffic.get(name, 0) for name in self.variants}

    @property
    def weights_are_kept(self) -> bool:
        """Whether weights that are in use stay as they are, because a rollout owns them."""
        return self.rollout is not None and self.rollout.weights is None

    def replicas(self, variant: str) -> int:
        """The number of replicas of a variant that always run."""
        return self.scaling_of(variant).min or 1

    def scaling_of(self, variant: str) -> Scaling:
        """How many replicas of a variant there are."""
        return self.variants[variant].scaling or self.scaling or Scaling()

    def resources_of(self, variant: str) -> Resources:
        """What each replica of a variant is given."""
        return self.variants[variant].resources or self.resources or Resources()

    def placement_of(self, variant: str) -> Placement:
        """Where replicas of a variant may run."""
        return self.variants[variant].placement or self.placement or Placement()


def _no_variant(name: str, variants: dict[str, Variant]) -> str:
    return f"there is no variant `{name}`{near_miss(name, variants)}; the variants are {', '.join(variants)}"
