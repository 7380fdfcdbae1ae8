"""Sources by scheme. A scheme that is not here means itself: see `models/source.py`."""

from dataclasses import replace

from model_server.errors import LoadFailed
from model_server.models.source import Resolved, scheme_of
from model_server.models.stores import store_for
from model_server.settings import ModelSettings, RegistrySettings


def resolve(model: ModelSettings, registry: RegistrySettings) -> tuple[Resolved, ...]:
    """Say which versions source and policy mean now, the default first. Blocks. Raises LoadFailed."""
    scheme = scheme_of(model.source)
    if scheme in ("models", "runs"):
        from model_server.models.sources.mlflow import MlflowSource

        found = MlflowSource(registry).resolve(model.source, model.versions)
        return tuple(replace(version, version=version.version or model.version or "1") for version in found)
    if model.versions is not None:
        if scheme != "file":
            raise LoadFailed(
                f"{model.source}: versions are known of models:/name and of local folders only; "
                "leave out versions, or declare a model for each"
            )
        from model_server.models.sources.folder import FolderSource

        return FolderSource(registry).resolve(model.source, model.versions)
    revision = store_for(model.source, registry).revision(model.source)
    return (Resolved(model.version or "1", model.source, model.source, revision),)


def may_change(model: ModelSettings) -> bool:
    """Whether the source can mean something else tomorrow without anybody changing the settings."""
    scheme = scheme_of(model.source)
    if scheme == "models":
        from model_server.models.sources.mlflow import names_one_version

        return not names_one_version(model.source) and not (model.versions and model.versions.specific)
    if scheme == "file":
        return bool(model.versions and model.versions.latest)
    return scheme != "runs"


def registered_name(model: ModelSettings) -> str | None:
    """The registered model behind the source, for a webhook's word; None if there is none."""
    if scheme_of(model.source) != "models":
        return None
    from model_server.models.sources.mlflow import name_of

    return name_of(model.source)
