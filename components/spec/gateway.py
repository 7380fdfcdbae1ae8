"""The one way in, where the platform has a choice of gateways."""

from collections.abc import Iterator

from pydantic import Field, model_validator

from .base import Problem, Spec, reject
from .gateway_classes import CLASSES, Certificate, Feature, GatewayClass

_DOMAIN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"


class Tls(Spec):
    """Where the gateway's certificate for the names below `domain` comes from: a `secret`, or a `certificate`
    that the cloud keeps. `{}` is for AWS, whose gateways find one in ACM by the names."""

    secret: str | None = Field(default=None, examples=["models-tls"])
    """Name of the Secret of type `kubernetes.io/tls` in the gateway's namespace. With `issuer` it need not
    exist: cert-manager makes it."""

    issuer: str | None = Field(default=None, examples=["letsencrypt"])
    """Name of a cert-manager ClusterIssuer that signs the certificate and renews it."""

    certificate: str | None = Field(
        default=None, examples=["arn:aws:acm:eu-west-1:123456789012:certificate/0f3d"]
    )
    """A certificate that the cloud keeps: the ARN of one in ACM for the classes of AWS, the name of a
    certificate map of Certificate Manager for `gke`."""

    @model_validator(mode="after")
    def _check(self) -> "Tls":
        if self.secret and self.certificate:
            reject([((), "the certificate comes from one place: leave out `secret` or `certificate`")])
        if self.issuer and not self.secret:
            reject([(("issuer",), "needs the name of the Secret to write; add e.g. secret: models-tls")])
        return self


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

    public: bool | None = Field(default=False, examples=[True])
    """Whether a gateway of class `aws-alb` is reached from the internet. For the other classes the class
    itself says so, or the Service that their proxies have."""

    parameters: str | None = Field(default=None, examples=["internal-only"])
    """Name of an object in the estate's namespace that says how the gateway is run: an EnvoyProxy for class
    `envoy`, a LoadBalancerConfiguration for `aws-alb`, which then also says what `public` and
    `tls.certificate` would."""

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
        who = f"gateways of class `{kind.value}` ({CLASSES[kind].title})"
        if self.parameters and not CLASSES[kind].parameters:
            yield ("parameters",), f"{who} have none; leave it out, or say it with `annotations`"
        if self.public and kind is not GatewayClass.AWS_ALB:
            yield (
                ("public",),
                f"whether {who} are reached from the internet is said elsewhere; leave it out, and see the "
                "class",
            )
        if self.parameters and kind is GatewayClass.AWS_ALB:
            for path, said in ((("public",), self.public), (("tls", "certificate"), self._certificate)):
                if said:
                    yield (
                        path,
                        f"the LoadBalancerConfiguration `{self.parameters}` says it; leave it out here",
                    )
        if self.existing is None:
            yield from self._wrong_certificate(who)
        if Feature.PLAIN_GRPC not in CLASSES[kind].features and not self.tls:
            yield (
                ("tls",),
                f"{who} take gRPC over HTTPS only; add `tls: {{}}` for a certificate that ACM has, or "
                "name one "
                "with `tls: {certificate: …}`",
            )
        if self.existing:
            for name in ("annotations", "parameters", "class_name", "public"):
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

    def _wrong_certificate(self, who: str) -> Iterator[Problem]:
        tls, can = self.tls, CLASSES[self.implementation].certificates
        if tls is None:
            return
        if tls.secret and Certificate.SECRET not in can:
            yield (
                ("tls", "secret"),
                f"{who} take no certificate from a Secret; write `tls: {{}}` for one that ACM has, or its "
                "ARN as "
                "`certificate`",
            )
        elif tls.certificate and Certificate.CLOUD not in can:
            yield ("tls", "certificate"), f"{who} take it from a Secret; name one with `secret`"
        elif not (tls.secret or tls.certificate) and Certificate.FOUND not in can:
            yield (
                ("tls",),
                f"{who} find no certificate by themselves; name a Secret, e.g. tls: {{secret: models-tls}}",
            )

    @property
    def _certificate(self) -> str | None:
        return self.tls.certificate if self.tls else None

    @property
    def implementation(self) -> GatewayClass:
        """Its class."""
        return self.gateway_class or GatewayClass.ENVOY

    @property
    def listens_on(self) -> int:
        """Its port."""
        return self.port or (443 if self.tls else 80)
