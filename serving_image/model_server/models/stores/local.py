"""Files that are on this machine already."""

import shutil
import urllib.parse
from pathlib import Path

from model_server.errors import LoadFailed
from model_server.models.source import Store


class LocalStore(Store):
    """A path or a `file:` URI; served from where it lies."""

    def local_path(self, location: str) -> Path:
        """See Store.local_path."""
        text = location
        if location.startswith("file:"):
            text = urllib.parse.unquote(urllib.parse.urlsplit(location).path)
        path = Path(text).expanduser()
        if not path.exists():
            raise LoadFailed(f"{location}: no such file or folder")
        return path.resolve()

    def download(self, location: str, into: Path) -> str:
        """See Store.download."""
        path = self.local_path(location)
        if path.is_dir():
            shutil.copytree(path, into, dirs_exist_ok=True)
        else:
            shutil.copy(path, into)
        return ""
