"""What is true of the whole of a cluster."""

from enum import Enum

from pydantic import Field

from .base import Spec


class AutoscalerName(Enum):
    """What decides on the number of replicas, where there is a choice."""

    HPA = "hpa"
    """Kubernetes' own HorizontalPodAutoscaler; targets other than CPU need a custom metrics adapter."""
    KEDA = "keda"
    """KEDA, which asks Prometheus itself and can take the last replica away."""


class Images(Spec):
    """The container images of an estate. None is published: build them (`make image`) and push them to a
    registry that the cluster reaches. Name them by digest (`…@sha256:…`) where it matters what runs."""

    model_server: str | None = Field(
        default="serving-estate/model-server:dev", examples=["ghcr.io/example/model-server@sha256:0f3d"]
    )
    """The project's model server, from `serving_image/`."""

    mlflow: str | None = Field(default="serving-estate/mlflow:dev", examples=["ghcr.io/example/mlflow:3.5"])
    """MLflow with the drivers of its database (psycopg2 for PostgreSQL) and of its artifact store."""

    postgres: str | None = Field(default="serving-estate/postgres:dev", examples=["postgres:17"])
    """PostgreSQL, for a registry without a database of its own."""


class KubernetesSettings(Spec):
    """What is said of the whole cluster; which cluster it is, the kubeconfig says. Only `platform:
    kubernetes` reads it."""

    namespace: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        examples=["serving"],
        json_schema_extra={"kind": "a namespace's name: up to 63 lower-case letters, digits and `-`"},
    )
    """A namespace that exists already; without it the estate makes one, called after project and stack."""

    images: Images | None = Field(default_factory=Images, examples=[{"mlflow": "ghcr.io/example/mlflow:3.5"}])
    """The container images."""

    pull_secret: str | None = Field(default=None, examples=["registry-login"])
    """Name of a Secret with which images are pulled."""

    secret: str | None = Field(default=None, examples=["model-sources"])
    """Name of a Secret whose entries become environment variables of every model server: credentials for
    `s3://` and other sources, `MLFLOW_TRACKING_TOKEN` for a registry that asks for it."""

    identity: dict[str, str] | None = Field(
        default=None, examples=[{"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/models"}]
    )
    """Annotations of the model servers' service accounts: who they are to the cloud."""

    callers: list[str] | None = Field(
        default=None, min_length=1, examples=[["envoy-gateway-system", "monitoring"]]
    )
    """Namespaces whose pods reach the model servers, beside the estate's own: those of the gateway's proxies
    and of Prometheus, at least. Every pod of the cluster does where nothing is said, and may then go past
    what the gateway asks of clients."""

    autoscaler: AutoscalerName | None = Field(default=AutoscalerName.HPA, strict=False, examples=["keda"])
    """What scales. KEDA must be installed to be used."""

    drain_s: int | None = Field(default=8, ge=1, le=600, examples=[15], json_schema_extra={"unit": "seconds"})
    """How long a server that is told to stop goes on answering: longer than a gateway takes to learn that it
    is no longer to be asked. Cloud load balancers need 15 to 60."""

    startup_s: int | None = Field(
        default=300, ge=10, le=7200, examples=[900], json_schema_extra={"unit": "seconds"}
    )
    """How long a replica may take to be ready, image and model downloads included; then `pulumi up` fails."""
