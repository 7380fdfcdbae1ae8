"""The one way in, where the platform has a choice of gateways."""

from collections.abc import Iterator

from pydantic import Field, model_validator

from .base import Problem, Spec, reject
from .gateway_classes import CLASSES, GatewayClass

_DOMAIN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"


class Tls(Spec):
    """Where the gateway's certificate for the names below `domain` comes from."""

    secret: str = Field(examples=["models-tls"])
    """Name of the Secret of type `kubernetes.io/tls` in the gateway's namespace. With `issuer` it need not
    exist: cert-manager makes it."""

    issuer: str | None = Field(default=None, examples=["letsencrypt"])
    """Name of a cert-manager ClusterIssuer that signs the certificate and renews it."""


class GatewaySettings(Spec):
    """The one way in. `platform: local` runs an Envoy of its own, an address an endpoint, and reads none of
    it."""

    gateway_class: GatewayClass | None = Field(default=GatewayClass.ENVOY, strict=False, examples=["envoy"])
    """What implements the gateway; it must be installed in the cluster."""

    class_name: str | None = Field(default=None, examples=["envoy-gateway"])
    """Name of the GatewayClass, where it is not the one that an installation of that class makes."""

    existing: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        examples=["infra/public"],
        json_schema_extra={"kind": "a namespace and a name with `/` between them"},
    )
    """A Gateway that exists already, as namespace/name, whose listeners let in routes for names below
    `domain`; without it the estate makes one."""

    domain: str | None = Field(
        default="models.internal",
        pattern=_DOMAIN,
        examples=["models.example.com"],
        json_schema_extra={"kind": "a domain in lower-case letters"},
    )
    """Endpoints are called `NAME.domain` for REST and `NAME-grpc.domain` for gRPC. The names must lead to the
    gateway: by a wildcard in DNS, or by ExternalDNS, which reads them from the routes."""

    port: int | None = Field(
        default=None, ge=1, le=65_535, examples=[8080], json_schema_extra={"unit": "TCP port"}
    )
    """The port that the gateway listens on; 443 with `tls`, else 80."""

    public_port: int | None = Field(
        default=None, ge=1, le=65_535, examples=[30080], json_schema_extra={"unit": "TCP port"}
    )
    """The port that clients see, where something in front of the gateway has another one: a NodePort, say."""

    tls: Tls | None = Field(default=None, examples=[{"secret": "models-tls", "issuer": "letsencrypt"}])
    """Encrypt; without it the gateway speaks plain HTTP, which is for trusted networks only."""

    annotations: dict[str, str] | None = Field(
        default=None, examples=[{"networking.gke.io/certmap": "models"}]
    )
    """Annotations of the Gateway, for its class."""

    parameters: str | None = Field(default=None, examples=["internal-only"])
    """Name of an EnvoyProxy in the estate's namespace: how Envoy Gateway runs the gateway's proxies."""

    @model_validator(mode="after")
    def _check(self) -> "GatewaySettings":
        reject(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        kind = self.implementation
        ports = CLASSES[kind].ports
        if ports and self.listens_on not in ports:
            some = " or ".join(map(str, sorted(ports)))
            yield (
                ("port",),
                f"gateways of class `{kind.value}` ({CLASSES[kind].title}) listen on {some} only; got "
                f"{self.port}",
            )
        if self.parameters and kind is not GatewayClass.ENVOY:
            yield ("parameters",), f"an EnvoyProxy means nothing to class `{kind.value}`; leave it out"
        if self.existing:
            for name in ("annotations", "parameters", "class_name"):
                if getattr(self, name):
                    yield (
                        (name,),
                        f"belongs to a gateway that the estate makes, but `existing` names one that is there "
                        f"already; leave out `{name}` or `existing`",
                    )
            if self.tls and self.tls.issuer:
                yield (
                    ("tls", "issuer"),
                    "the certificate of an existing gateway is its owner's affair; leave it out",
                )

    @property
    def implementation(self) -> GatewayClass:
        """Its class."""
        return self.gateway_class or GatewayClass.ENVOY

    @property
    def listens_on(self) -> int:
        """Its port."""
        return self.port or (443 if self.tls else 80)
