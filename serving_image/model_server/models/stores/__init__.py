"""Stores by scheme; an import here costs nothing until the scheme is used."""

from model_server.errors import LoadFailed
from model_server.models.source import Store, scheme_of
from model_server.models.stores.local import LocalStore
from model_server.settings import RegistrySettings


def store_for(location: str, registry: RegistrySettings) -> Store:
    """The store that downloads this location. Raises LoadFailed for an unknown scheme."""
    scheme = scheme_of(location)
    if scheme == "file":
        return LocalStore(registry)
    if scheme == "mlflow-artifacts":
        from model_server.models.stores.mlflow_artifacts import MlflowArtifactStore

        return MlflowArtifactStore(registry)
    if scheme in ("http", "https"):
        from model_server.models.stores.http import HttpStore

        return HttpStore(registry)
    if scheme == "s3":
        from model_server.models.stores.s3 import S3Store

        return S3Store(registry)
    if scheme == "gs":
        from model_server.models.stores.gcs import GcsStore

        return GcsStore(registry)
    raise LoadFailed(
        f"{location}: no store for {scheme!r} (known: a path, file, mlflow-artifacts, http, https, s3, gs)"
    )
