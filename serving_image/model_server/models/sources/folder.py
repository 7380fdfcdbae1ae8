"""A local folder with a subfolder for each version: 1, 2, 3, …, as Triton and TensorFlow Serving have it.

Move a finished version into place with a rename: what lies there under a number is taken as complete.
"""

from pathlib import Path

from model_server.errors import LoadFailed
from model_server.models.source import Resolved, Source
from model_server.models.stores.local import LocalStore
from model_server.settings import VersionPolicy


class FolderSource(Source):
    """Numbered subfolders."""

    def resolve(self, reference: str, policy: VersionPolicy | None) -> tuple[Resolved, ...]:
        """See Source.resolve."""
        root = LocalStore(self.registry).local_path(reference)
        try:
            numbers = sorted((int(p.name) for p in root.iterdir() if _is_version(p)), reverse=True)
        except OSError as error:
            raise LoadFailed(f"{reference}: cannot be listed: {error.strerror}") from error
        if policy is None or policy.alias is not None:
            raise LoadFailed(
                f"{reference}: a folder has no aliases; use versions.latest or versions.specific"
            )
        wanted = numbers[: policy.latest] if policy.latest else [int(v) for v in policy.specific or ()]
        missing = [number for number in wanted if number not in numbers]
        if missing or not wanted:
            found = ", ".join(map(str, numbers)) or "none"
            raise LoadFailed(
                f"{reference}: no version {missing[0] if missing else '1, 2, …'}; found: {found}"
            )
        return tuple(Resolved(str(n), str(root / str(n)), str(root / str(n))) for n in wanted)


def _is_version(path: Path) -> bool:
    return path.is_dir() and path.name.isdecimal() and path.name == str(int(path.name))
