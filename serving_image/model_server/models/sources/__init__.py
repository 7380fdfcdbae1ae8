"""Sources by scheme. A scheme that is not here means itself: see `models/source.py`."""

from model_server.models.source import Resolved, scheme_of
from model_server.settings import ModelSettings, RegistrySettings


def resolve(model: ModelSettings, registry: RegistrySettings) -> Resolved:
    """Say which version and location the model's source means now. Blocks. Raises LoadFailed."""
    if scheme_of(model.source) == "models":
        from model_server.models.sources.mlflow import MlflowSource

        return MlflowSource(registry).resolve(model.source)
    return Resolved(version=model.version or "1", location=model.source, uri=model.source)
