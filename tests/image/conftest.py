"""The image, built once, and containers of it, run by runc as a cluster would."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from toolchain import image as builder

NAME = "localhost/model-server:test"


def buildah(*arguments: str) -> str:
    return builder.run(["buildah", *arguments]).strip()


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the image, built from this tree."""
    missing = [tool for tool in ("buildah", "runc") if not shutil.which(tool)]
    if missing or os.geteuid():
        why = f"{' and '.join(missing)} not installed" if missing else "it needs root"
        mend = "on Debian: apt-get install buildah runc mmdebstrap, as root"
        message = f"the image cannot be built and run here: {why}; {mend}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    builder.build(NAME)
    return NAME


@pytest.fixture(scope="session")
def configuration(image: str) -> dict[str, Any]:
    """What the image says of itself."""
    return dict(json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"])


@pytest.fixture(scope="session")
def files(image: str) -> Iterator[Path]:
    """The image's file system."""
    container = buildah("from", image)
    yield Path(buildah("mount", container))
    buildah("rm", container)


class Container:
    """A running container: unprivileged, without capabilities, on a read-only file system."""

    def __init__(self, files: Path, config: dict[str, Any], folder: Path, mounts: dict[Path, str]) -> None:
        self.name = f"model-server-test-{uuid.uuid4().hex[:8]}"
        self.log = folder / "log"
        user, group = (int(part) for part in config["User"].split(":"))
        bundle = {
            "ociVersion": "1.0.2",
            "root": {"path": str(files), "readonly": True},
            "process": {
                "args": [*config["Entrypoint"], *config["Cmd"]],
                "env": config["Env"],
                "cwd": config["WorkingDir"],
                "user": {"uid": user, "gid": group},
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
                *(
                    {"destination": to, "type": "bind", "source": str(source), "options": ["bind", "ro"]}
                    for source, to in mounts.items()
                ),
            ],
            # The network is the host's: loopback is where the test asks.
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
        }
        (folder / "config.json").write_text(json.dumps(bundle))
        self._process = subprocess.Popen(
            ["runc", "run", "--bundle", str(folder), self.name],
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
        )

    def wait_until_ready(self, port: int, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2):
                    return
            except (OSError, urllib.error.URLError):
                assert self._process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["runc", "exec", self.name, *command], capture_output=True, text=True, timeout=60
        )

    def signal(self, name: str) -> None:
        subprocess.run(["runc", "kill", self.name, name], check=True)

    def wait(self, seconds: float = 60) -> int:
        return self._process.wait(seconds)

    def remove(self) -> None:
        subprocess.run(["runc", "delete", "--force", self.name], capture_output=True)
        self._process.wait(30)


@pytest.fixture
def run(files: Path, configuration: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Start a container with files of the host mounted into it: {path: place}."""
    started: list[Container] = []

    def start(mounts: dict[Path, str]) -> Container:
        folder = tmp_path / f"bundle-{len(started)}"
        folder.mkdir()
        started.append(Container(files, configuration, folder, mounts))
        return started[-1]

    yield start
    for container in started:
        container.remove()
