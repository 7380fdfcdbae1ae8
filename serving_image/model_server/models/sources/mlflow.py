"""`models:/name/version`, `models:/name@alias` and `models:/name/latest` of an MLflow registry."""

import re

from model_server.errors import LoadFailed
from model_server.models.mlflow_rest import MlflowClient
from model_server.models.source import Resolved, Source

_REFERENCE = re.compile(r"models:/+(?P<name>[^/@]+)(?:/(?P<version>\d+|latest)|@(?P<alias>[^/@]+))")


class MlflowSource(Source):
    """The model registry."""

    def resolve(self, reference: str) -> Resolved:
        """See Source.resolve."""
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise LoadFailed(
                f"{reference}: expected models:/name/version, models:/name/latest or models:/name@alias"
            )
        client = MlflowClient(self.registry)
        name, version = match["name"], match["version"]
        if match["alias"]:
            found = client.call("registered-models/alias", name=name, alias=match["alias"])
            version = str(found["model_version"]["version"])
        elif version == "latest":
            version = _latest(client, name)
        found = client.call("model-versions/get-download-uri", name=name, version=version)
        return Resolved(version=version, location=str(found["artifact_uri"]), uri=f"models:/{name}/{version}")


def _latest(client: MlflowClient, name: str) -> str:
    quoted = name.replace("'", "")
    found = client.call("model-versions/search", filter=f"name='{quoted}'", max_results="1000")
    versions = [int(version["version"]) for version in found.get("model_versions", [])]
    if not versions:
        raise LoadFailed(f"models:/{name}/latest: the model has no versions")
    return str(max(versions))
