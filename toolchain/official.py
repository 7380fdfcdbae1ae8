"""The official Pulumi release: a pinned archive, checked before it is unpacked."""

import hashlib
import platform
import tarfile
import urllib.request
from pathlib import Path

from toolchain.cache import Progress, ToolError, staged

RELEASES = "https://get.pulumi.com/releases/sdk"
CONNECT_TIMEOUT_S = 5.0
# From the release's own checksums file, written down here so that a changed archive is noticed. A platform
# that is not listed is checked against that file.
SHA256 = {
    "3.255.0-linux-x64": "cf559568e2c32f7fae56ea3de8ae5fa48973ba8c5aa9dd2b3dc0c8898fe50dba",
    "3.255.0-linux-arm64": "699fbc6ea848d997e9b3645487f108d27b1b55ec807c7576406131e6e080f0e3",
}


def release_platform(system: str, machine: str) -> str:
    """Return a platform's name as the release's archives have it."""
    architecture = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(
        machine.lower()
    )
    if system not in ("Linux", "Darwin") or architecture is None:
        raise ToolError(f"there is no Pulumi release for {system} on {machine} that this installer knows")
    return f"{system.lower()}-{architecture}"


def install(version: str, target: Path) -> Path:
    """Download and unpack a release; return the folder to put on PATH."""
    name = release_platform(platform.system(), platform.machine())
    archive = f"pulumi-v{version}-{name}.tar.gz"
    try:
        with staged(target) as folder, Progress(f"downloading {RELEASES}/{archive}") as progress:
            expected = SHA256.get(f"{version}-{name}") or published_checksum(version, archive)
            packed = folder / archive
            actual = download(f"{RELEASES}/{archive}", packed, progress)
            if actual != expected:
                raise ToolError(
                    f"{archive} has SHA-256 {actual}, but {expected} is expected: it was changed on the way; "
                    "try again from another network"
                )
            progress.phase = "unpacking"
            with tarfile.open(packed) as tar:
                tar.extractall(folder)  # noqa: S202 - checked above; `filter` is missing in Debian 12's Python
            packed.unlink()
    except (OSError, tarfile.TarError) as error:
        reason = getattr(error, "reason", error)
        raise ToolError(f"the official release cannot be fetched: {reason}") from error
    return bin_folder(target)


def bin_folder(target: Path) -> Path:
    """Return the folder of an unpacked release to put on PATH."""
    return target / "pulumi"


def published_checksum(version: str, archive: str) -> str:
    """Read an archive's checksum from the release's list."""
    with urllib.request.urlopen(  # noqa: S310 - the scheme is fixed
        f"{RELEASES}/pulumi-{version}-checksums.txt", timeout=CONNECT_TIMEOUT_S
    ) as answer:
        return parse_checksums(answer.read().decode(), archive)


def parse_checksums(text: str, archive: str) -> str:
    """Find an archive's line in a checksums file."""
    for line in text.splitlines():
        checksum, _, name = line.partition("  ")
        if name.strip() == archive:
            return checksum
    raise ToolError(f"the release's checksums do not list {archive}")


def download(url: str, target: Path, progress: Progress) -> str:
    """Write what a URL has to a file; return its SHA-256."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT_S) as answer, target.open("wb") as file:  # noqa: S310
        total = int(answer.headers.get("Content-Length") or 0) >> 20
        while chunk := answer.read(1 << 20):
            file.write(chunk)
            digest.update(chunk)
            progress.phase = f"{file.tell() >> 20} of {total or '?'} MiB"
    return digest.hexdigest()
