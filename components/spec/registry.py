"""The model registry."""

from collections.abc import Iterator

from pydantic import Field, model_validator

from .base import Problem, Spec, reject


class Seed(Spec):
    """A program that fills a new registry, e.g. by training and registering example models."""

    command: list[str] = Field(min_length=1, examples=[["python", "-m", "stacks.models"]])
    """The program and its arguments, run once, locally in the project's folder; the tracking URI is in
    `MLFLOW_TRACKING_URI`. Run again when the command changes, so it must be repeatable."""

    image: str | None = Field(default=None, examples=["ghcr.io/example/seed:1"])
    """The container image that has the program, where it runs in a container; the registry's own image where
    nothing is said. `platform: local` runs the program as it is."""

    timeout_s: int | None = Field(
        default=900, ge=1, le=86_400, examples=[900], json_schema_extra={"unit": "seconds"}
    )
    """How long it may take."""

    @model_validator(mode="after")
    def _check(self) -> "Seed":
        if not self.command[0].strip():
            reject([(("command", 0), "is empty; name the program to run, e.g. python")])
        return self


class Backup(Spec):
    """Copies of the registry's database at regular times, on a volume of their own."""

    schedule: str | None = Field(
        default="17 3 * * *",
        pattern=r"^(@(hourly|daily|weekly|monthly)|\S+( +\S+){4})$",
        examples=["17 3 * * *"],
        json_schema_extra={"kind": "five fields as in crontab, or @hourly, @daily, @weekly, @monthly"},
    )
    """When, in UTC."""

    keep: int | None = Field(default=7, ge=1, le=365, examples=[7], json_schema_extra={"unit": "copies"})
    """Copies to keep; older ones are removed."""

    storage_gib: int | None = Field(
        default=5, ge=1, le=65_536, examples=[5], json_schema_extra={"unit": "GiB"}
    )
    """Size of their volume."""


class Registry(Spec):
    """The MLflow model registry that `models:/` addresses are looked up in."""

    uri: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+",
        examples=["https://mlflow.example.com"],
        json_schema_extra={"kind": "an http:// or https:// address"},
    )
    """The tracking URI of a registry that exists already; without it the estate runs one of its own."""

    seed: Seed | None = Field(default=None, examples=[{"command": ["python", "-m", "stacks.models"]}])
    """Fill a registry of the estate's own."""

    database_secret: str | None = Field(default=None, examples=["mlflow-database"])
    """Name of a Secret whose entry `uri` is the address of a PostgreSQL, MySQL or other database that MLflow
    takes. Without it a PostgreSQL runs beside the registry, for development. `platform: local` has SQLite."""

    artifacts: str | None = Field(
        default=None,
        pattern=r"^(s3|gs|abfss|wasbs)://[^\s/]+(/\S*)?$",
        examples=["s3://models/mlflow"],
        json_schema_extra={"kind": "an s3://, gs://, abfss:// or wasbs:// address"},
    )
    """Where model files are kept. The registry hands them out itself, so that nobody else needs to reach the
    store. Without it they lie on a volume, for development."""

    secret: str | None = Field(default=None, examples=["mlflow-store"])
    """Name of a Secret whose entries become environment variables of the registry: the store's credentials,
    and `MLFLOW_S3_ENDPOINT_URL` for one that is not Amazon's."""

    identity: dict[str, str] | None = Field(
        default=None, examples=[{"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/mlflow"}]
    )
    """Annotations of the registry's service account: who it is to the cloud, and so to its store, without a
    `secret`."""

    login_secret: str | None = Field(default=None, examples=["mlflow-login"])
    """Name of a Secret with the entries `username`, `password` and `flask-secret` (any long random text): the
    registry then asks for a login, which the model servers are given."""

    storage_gib: int | None = Field(
        default=10, ge=1, le=65_536, examples=[20], json_schema_extra={"unit": "GiB"}
    )
    """Size of each volume for development: the database's and the model files'."""

    backup: Backup | None = Field(default=None, examples=[{"keep": 14}])
    """Back the PostgreSQL up that the estate runs; a database of your own has backups of its own."""

    @model_validator(mode="after")
    def _check(self) -> "Registry":
        reject(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.uri and self.seed:
            yield ("seed",), "only a registry of the estate's own is seeded; leave out `seed` or `uri`"
        for name in ("database_secret", "artifacts", "secret", "identity", "backup"):
            if self.uri and getattr(self, name):
                yield (
                    (name,),
                    f"belongs to a registry of the estate's own; leave out `{name}` or `uri`",
                )
        if self.database_secret and self.backup:
            yield (
                ("backup",),
                "only the PostgreSQL that the estate runs is backed up; leave out `backup` or "
                "`database_secret`",
            )
