"""The Python environment `.venv`, from a lock: `python3 toolchain/environment.py local|dev`.

`dev` holds all of `local` in the same versions, so an environment made for `dev` serves both.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

if __package__ in (None, ""):  # run by path, as the Makefile does
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from toolchain.cache import Progress, ToolError, say
from toolchain.lock import PROJECTS, REQUIREMENTS, ROOT
from toolchain.source import base_python
from toolchain.uv import uv

VENV = ROOT / ".venv"
STAMP = VENV / "serving-estate.stamp"


def digest(lock: str) -> str:
    """Digest all that an environment depends on; the checkout's own path is in its editable packages."""
    state = hashlib.sha256(f"{ROOT} {base_python()} {sys.version}".encode())
    for path in [REQUIREMENTS / f"{lock}.lock", REQUIREMENTS / "build.lock", *own_packages("pyproject.toml")]:
        state.update(path.read_bytes())
    return f"{lock} {state.hexdigest()[:16]}"


def own_packages(file: str = "") -> list[Path]:
    """Return the folders of the checkout's own packages, or a file in each."""
    return [(ROOT / name).parent / file for name in PROJECTS if (ROOT / name).exists()]


def current(lock: str) -> bool:
    """Say whether the environment is already what the lock asks for."""
    have = STAMP.read_text() if STAMP.exists() and (VENV / "bin" / "python").exists() else ""
    return have in {digest(lock), digest("dev")}


def install(lock: str) -> None:
    """Make the environment; one that was left half-made has no stamp, and is made again."""
    STAMP.unlink(missing_ok=True)
    if VENV.exists() and not (VENV / "bin" / "python").exists():
        shutil.rmtree(VENV)
    with Progress(f"installing requirements/{lock}.lock into .venv") as progress:
        if not VENV.exists():
            progress.phase = "making .venv"
            run("venv", "--quiet", "--python", str(base_python()), str(VENV))
        progress.phase = "installing packages"
        run("pip", "sync", "--quiet", "--require-hashes", str(REQUIREMENTS / f"{lock}.lock"))
        progress.phase = "installing our own packages"
        editable = [argument for folder in own_packages() for argument in ("--editable", str(folder))]
        build = str(REQUIREMENTS / "build.lock")
        run("pip", "install", "--quiet", "--no-deps", "--build-constraints", build, *editable)
    STAMP.write_text(digest(lock))


def run(*arguments: str) -> None:
    """Run uv on the environment."""
    done = subprocess.run(
        [uv(), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"VIRTUAL_ENV": str(VENV)},
    )
    if done.returncode:
        raise ToolError(
            f"`uv {arguments[0]} {arguments[1]}` failed: check the network and the package index\n"
            f"{done.stderr.rstrip()}"
        )


def main() -> int:
    """Make the environment if it is not as the lock says."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is the first thing that runs on a bare host
        say(f"Python 3.11 or newer is needed, this is {platform.python_version()}")
        return 1
    lock = sys.argv[1] if len(sys.argv) > 1 else "local"
    try:
        if not current(lock):
            install(lock)
    except ToolError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run it again")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
