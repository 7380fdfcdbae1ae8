"""`mlflow-artifacts:/…`: files that the MLflow server hands out itself."""

import urllib.parse
from pathlib import Path, PurePosixPath

from model_server.errors import LoadFailed
from model_server.models.mlflow_rest import MlflowClient
from model_server.models.source import Store


class MlflowArtifactStore(Store):
    """The artifact proxy of the tracking server."""

    def download(self, location: str, into: Path) -> str:
        """See Store.download."""
        root = urllib.parse.urlsplit(location).path.strip("/")
        client = MlflowClient(self.registry)
        if _download_folder(client, root, into) == 0:
            raise LoadFailed(f"{location}: the MLflow server lists no files there")
        return ""


def _download_folder(client: MlflowClient, folder: str, into: Path) -> int:
    count = 0
    for name, is_folder in client.list_files(folder):
        # The server's word on names is not trusted: a path that climbs out would write anywhere.
        if PurePosixPath(name).name != name or name in ("..", "."):
            raise LoadFailed(f"{folder}: the MLflow server lists a name that is not one: {name!r:.100}")
        if is_folder:
            (into / name).mkdir()
            count += _download_folder(client, f"{folder}/{name}", into / name)
        else:
            client.download(f"{folder}/{name}", into / name)
            count += 1
    return count
