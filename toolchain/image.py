"""The image of the model server: `python3 toolchain/image.py NAME`, with docker or buildah.

Where no container registry can be reached, the official Python image that the Dockerfile starts from is
replaced by a Debian of Debian's own packages, made by mmdebstrap.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

if __package__ in (None, ""):  # run by path, as the Makefile does
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from toolchain.cache import Progress, ToolError, root, say
from toolchain.lock import ROOT

CONTEXT = ROOT / "serving_image"
DEBIAN = "localhost/debian-python:bookworm"
PACKAGES = "python3-minimal,python3-venv,ca-certificates"
REGISTRY_SECONDS = 20

# Works without the cgroup privileges that builders in CI often lack.
BUILDAH = {"BUILDAH_ISOLATION": "chroot"}


def builder() -> str:
    """docker where its engine runs, else buildah."""
    docker, buildah = shutil.which("docker"), shutil.which("buildah")
    if docker and not subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        return "docker"
    if buildah:
        return "buildah"
    raise ToolError("an image needs docker or buildah: install one, on Debian `apt-get install buildah`")


def build(name: str) -> None:
    """Build the image and call it `name`."""
    tool = builder()
    command = [tool, "build", "--tag", name]
    if tool == "buildah":
        # The OCI format knows no health check. Layers are kept: packages change less often than the server.
        command += ["--format", "docker", "--layers"]
        if not registry_reachable():
            say("no container registry can be reached: building on a Debian of its own packages")
            debian()
            command += ["--build-arg", f"BASE={DEBIAN}"]
    command += certificates(tool)
    with Progress(f"building the image {name}"):
        run([*command, str(CONTEXT)])


def certificates(tool: str) -> list[str]:
    """Arguments of a build that let its packages come through an intercepting proxy, where there is one."""
    file = os.environ.get("PIP_CERT")
    if not file:
        return []
    mounted = ["--volume", f"{file}:{file}:ro"] if tool == "buildah" else []
    return ["--build-arg", f"PIP_CERT={file}", *mounted]


def registry_reachable() -> bool:
    """Whether the Dockerfile's own base can be had."""
    lines = (CONTEXT / "Dockerfile").read_text().splitlines()
    base = next(line.partition("=")[2] for line in lines if line.startswith("ARG BASE="))
    try:
        run(["buildah", "pull", "--quiet", base], seconds=REGISTRY_SECONDS)
    except ToolError:
        return False
    return True


def debian() -> None:
    """Make the base from Debian's packages, unless it was made before."""
    if run(["buildah", "images", "--quiet", "--filter", f"reference={DEBIAN}"]).strip():
        return
    if not shutil.which("mmdebstrap"):
        raise ToolError("a base without a registry needs mmdebstrap: `apt-get install mmdebstrap`")
    # Kept among the caches: a new machine's image store is empty, its cache may not be.
    tar = root() / "debian-python-bookworm.tar"
    with Progress("making a Debian base"):
        if not tar.exists():
            half = tar.with_suffix(f".{os.getpid()}.tar")
            run(
                ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(half)]
            )
            half.rename(tar)
        container = run(["buildah", "from", "scratch"]).strip()
        run(["buildah", "add", "--quiet", container, str(tar), "/"])
        run(["buildah", "commit", "--quiet", "--rm", container, DEBIAN])


def run(command: list[str], seconds: float | None = None) -> str:
    """Run a command; its output, or a `ToolError` with what it said last."""
    try:
        done = subprocess.run(
            command, env=os.environ | BUILDAH, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired as late:
        raise ToolError(f"`{' '.join(command[:3])} …` took longer than {seconds:g} s") from late
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).rstrip().splitlines()[-15:])
        raise ToolError(f"`{' '.join(command[:3])} …` failed with code {done.returncode}:\n{said}")
    return done.stdout


def main() -> int:
    """Build the image that the command line names."""
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else "model-server")
    except ToolError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
