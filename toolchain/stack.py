"""`make up` and `make down`: plain `pulumi`, with the environment it wants, and the stack made if missing."""

import argparse
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

if __package__ in (None, ""):  # run by path, as the Makefile does
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from toolchain.cache import ToolError, say
from toolchain.engine import engine
from toolchain.lock import ROOT

STATE = ROOT / ".state"


def environment() -> dict[str, str]:
    """Return what `pulumi` needs to work on this checkout's stacks from any folder."""
    path = [str(engine()), str(ROOT / ".venv" / "bin"), os.environ.get("PATH", os.defpath)]
    return {
        "PATH": os.pathsep.join(path),
        # Absolute: the relative one in Pulumi.yaml is taken from the working directory.
        # Without the files beside the state that hold its type and checksum: they are not written in one
        # step, and a pulumi that is killed then leaves an empty one, which no later run can read.
        "PULUMI_BACKEND_URL": os.environ.get("PULUMI_BACKEND_URL", f"file://{STATE}?metadata=skip"),
        # The local stack holds no secret of anybody's, and its state never leaves this machine.
        "PULUMI_CONFIG_PASSPHRASE": os.environ.get("PULUMI_CONFIG_PASSPHRASE", ""),
        "PULUMI_SKIP_UPDATE_CHECK": "1",
    }


def pulumi(*arguments: str) -> int:
    """Run a pulumi command on the project, its output going straight to the user."""
    return subprocess.run([str(shutil.which("pulumi")), "-C", str(ROOT), *arguments], check=False).returncode


def up(stack: str) -> int:
    """Bring a stack up; make it when it is missing."""
    STATE.mkdir(exist_ok=True)
    clear_stale_locks(stack)
    return pulumi("stack", "select", "--create", stack) or pulumi("up", "--yes", "--stack", stack)


def down(stack: str) -> int:
    """Take a stack down, and forget it."""
    if not stack_files(stack):
        say(f"there is no stack {stack} here")
        return 0
    clear_stale_locks(stack)
    # Not `destroy --remove`: that deletes the stack's committed settings too.
    code = pulumi("destroy", "--yes", "--stack", stack) or pulumi(
        "stack", "rm", "--yes", "--preserve-config", "--stack", stack
    )
    if code == 0 and not stack_files():
        shutil.rmtree(STATE, ignore_errors=True)
    return code


def stack_files(stack: str = "*") -> list[Path]:
    """Return the state of a stack of this project, or of all."""
    return list(STATE.glob(f".pulumi/stacks/*/{stack}.json"))


def clear_stale_locks(stack: str) -> None:
    """Remove the lock of a pulumi that was killed on this machine; that of a living one is kept."""
    for lock in STATE.glob(f".pulumi/locks/organization/*/{stack}/*.json"):
        holder = json.loads(lock.read_text())
        who = f"process {holder['pid']} of {holder['username']}, since {holder['timestamp']}"
        if holder["hostname"] != socket.gethostname():
            raise ToolError(
                f"stack {stack} is locked by {who}, on {holder['hostname']}: wait for it, or `pulumi cancel`"
            )
        if is_pulumi(holder["pid"]):
            raise ToolError(f"stack {stack} is locked by {who}, which is running: wait for it")
        say(f"clearing the lock of {who}, which is dead")
        lock.unlink()


def is_pulumi(pid: int) -> bool:
    """Say whether a process is alive and a pulumi: process numbers are used again."""
    if Path("/proc/self/stat").exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text()  # "123 (pulumi) S 1 ..."
        except OSError:
            return False
    else:
        ps = ["/bin/ps", "-o", "pid=,comm=,stat=", "-p", str(pid)]
        state = subprocess.run(ps, capture_output=True, text=True, check=False).stdout
    return "pulumi" in state and " Z" not in state


def main() -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["up", "down", "env"])
    parser.add_argument("stack", nargs="?", default="local")
    args = parser.parse_args()
    try:
        environ = environment()
        if args.command == "env":
            for name, value in environ.items():
                print(f"export {name}={shlex.quote(value)}")
            return 0
        os.environ.update(environ)
        return up(args.stack) if args.command == "up" else down(args.stack)
    except ToolError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
