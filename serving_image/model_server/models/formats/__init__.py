"""Formats of model files, one file each; `load_artifact` picks the one that fits."""

from model_server.errors import LoadFailed
from model_server.models.artifact import Artifact
from model_server.models.format import Format, LoadOptions, Model
from model_server.models.formats.onnx import OnnxFormat
from model_server.models.formats.pyfunc import PyfuncFormat

FORMATS: tuple[Format, ...] = (OnnxFormat(), PyfuncFormat())
"""In the order in which they are asked."""


def load_artifact(artifact: Artifact, options: LoadOptions) -> Model:
    """Load with the first format that finds its file. Blocks. Raises LoadFailed."""
    for format_ in FORMATS:
        path = format_.find(artifact)
        if path is not None:
            return format_.load(path, options, artifact)
    known = ", ".join(format_.name for format_ in FORMATS)
    flavors = (artifact.mlmodel or {}).get("flavors") or {}
    has = (
        f"MLflow flavours {', '.join(flavors)}"
        if flavors
        else f"files {', '.join(list(artifact.digests)[:10])}"
    )
    raise LoadFailed(f"{artifact.uri}: no format of this server fits it (known: {known}; it has {has})")
