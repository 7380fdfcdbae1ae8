"""Images without a builder: one layer of given files, as an archive that `docker load` and containerd read.

The same files make the same bytes, so an archive's name can tell what is in it.
"""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PATH = "/usr/local/bin:/usr/bin:/bin"


def write(
    target: Path,
    name: str,
    files: Mapping[str, Path],
    *,
    entrypoint: Sequence[str],
    user: str = "65532:65532",
) -> None:
    """Write an image called `name` with `files` (place in the image: file of this host) to `target`."""
    layer = _layer(files)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "Env": [f"PATH={PATH}"], "User": user},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    digest = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{digest}.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(target, "w") as archive:
        for path, content in (
            ("layer.tar", layer),
            (f"{digest}.json", config),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def libraries(program: Path) -> dict[str, Path]:
    """Return the shared libraries that a program loads, by the place where the loader looks for them."""
    told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout  # noqa: S607
    paths = [word for line in told.splitlines() for word in line.split() if word.startswith("/")]
    return {path: Path(path).resolve() for path in paths}


def _layer(files: Mapping[str, Path]) -> bytes:
    folders = {str(parent) for place in files for parent in Path(place).parents if str(parent) != "/"}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as layer:
        for folder in sorted({*folders, "/tmp"}):  # noqa: S108  a place in the image
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if folder == "/tmp" else 0o755  # noqa: S108
            layer.addfile(entry)
        seen: dict[Path, str] = {}
        for place, source in sorted(files.items()):
            entry = tarfile.TarInfo(place.lstrip("/"))
            if source in seen:
                entry.type, entry.linkname = tarfile.SYMTYPE, seen[source]
                layer.addfile(entry)
                continue
            seen[source] = place
            entry.size = source.stat().st_size
            entry.mode = 0o755
            with source.open("rb") as file:
                layer.addfile(entry, file)
    return content.getvalue()
