"""One virtual environment a requirements file, kept in the user's cache and rebuilt when the file changes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
UV = "0.13.9"


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "serving-estate" / "bench"


def install(name: str, requirements: Path, package: Path | None = None) -> Path:
    """Make the environment where it is missing or stale and return its interpreter.

    `package` is a source tree that is installed too. It is copied in anew whenever one of its files changes.
    """
    home = cache() / "environments" / name
    stamp = home / "installed"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode())
    for file in sorted(package.rglob("*")) if package else []:
        if file.suffix in {".py", ".toml", ".proto", ".c"} and "build" not in file.parts:
            wanted.update(file.read_bytes())
    python = home / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == wanted.hexdigest():
        return python
    shutil.rmtree(home, ignore_errors=True)
    say(f"installing {name}")
    run = partial(subprocess.run, check=True)
    run([_uv(), "venv", "--quiet", "--python", sys.executable, home])
    pip = [_uv(), "pip", "install", "--quiet", "--python", python]
    run([*pip, "-r", requirements])
    if package:
        run([*pip, "-r", requirements, package])
    stamp.write_text(wanted.hexdigest())
    return python


def enter(module: str) -> None:
    """The harness needs numpy and ONNX: it installs them for itself and starts again there."""
    python = install("harness", HERE / "requirements.txt")
    if Path(sys.executable) != python:
        os.chdir(PROJECT)
        os.execv(python, [str(python), "-m", module, *sys.argv[1:]])


def _uv() -> Path:
    """Pip takes a minute for some of the peers, uv seconds: pip fetches uv once, into a place of its own."""
    home = cache() / "environments" / f"uv-{UV}"
    if not (home / "bin" / "uv").is_file():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet", f"uv=={UV}"], check=True)
    return home / "bin" / "uv"


def versions(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Ask an environment what it holds: the table names versions that ran, not those that were wanted."""
    program = (
        "import importlib.metadata as m, json, sys\n"
        "have = {d.name.lower().replace('_', '-'): d.version for d in m.distributions()}\n"
        "print(json.dumps({n: have[n] for n in sys.argv[1:] if n in have}))"
    )
    answer = subprocess.run([python, "-c", program, *names], check=True, capture_output=True, text=True)
    return dict(json.loads(answer.stdout))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
