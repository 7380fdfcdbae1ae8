"""Running the host's and the cluster's commands, with errors that say what they said."""

import os
import subprocess
from pathlib import Path

from toolchain.cache import ToolError

# Where Debian keeps what only root runs; it is not on everybody's PATH.
_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")


def with_system_path() -> None:
    """Put the system's folders on PATH, for us and for all that we start."""
    have = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*have, *(path for path in _SYSTEM if path not in have)])


def run(*command: str | Path, given: str | None = None, seconds: float = 120) -> str:
    """Return what a command prints.

    Raises:
        ToolError: it fails, with the last lines that it said; or it takes longer than `seconds`.
    """
    words = [str(word) for word in command]
    shown = " ".join([Path(words[0]).name, *words[1:5]])
    try:
        done = subprocess.run(
            words, input=given, capture_output=True, text=True, check=False, timeout=seconds
        )
    except FileNotFoundError as error:
        raise ToolError(f"`{words[0]}` is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"`{shown} …` took longer than {seconds:g} s") from error
    if done.returncode:
        said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-12:])
        raise ToolError(f"`{shown} …` failed with code {done.returncode}:\n{said}")
    return done.stdout


def succeeds(*command: str | Path) -> bool:
    """Say whether a command can be run and ends well."""
    try:
        run(*command)
    except ToolError:
        return False
    return True
