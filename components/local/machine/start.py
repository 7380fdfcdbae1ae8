"""Become the command that a JSON file holds: `python start.py FILE`, which is what the supervisor runs.

The file takes any text; in supervisord's own format a quotation mark or ` ;` in a variable is lost.
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

if __package__ in (None, ""):  # run by path, for a quick start
    sys.path[0] = str(Path(__file__).resolve().parent)

import marks  # type: ignore[import-not-found, unused-ignore]


def main(file: str) -> None:
    """Read the file, end what is left of an earlier life where that is asked for, then become the command."""
    wanted = json.loads(Path(file).read_text())
    os.environ.update({**wanted["env"], marks.PROGRAM: wanted["name"]})
    if wanted["has_children"]:
        end_remains()
    command = wanted["command"]
    try:
        os.chdir(wanted["directory"])
        os.execvp(command[0], command)  # noqa: S606  there is no shell on purpose
    except OSError as error:
        sys.exit(f"cannot run `{' '.join(command)}` in {wanted['directory']}: {error.strerror}")


def end_remains() -> None:
    """End the children of the program's earlier life.

    A program that is killed cannot take them with it. They would hold its port, and the program that
    is started anew could never listen on it.
    """
    import psutil

    mine = {name: os.environ.get(name) for name in (marks.HOST, marks.PROGRAM)}
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environ = process.environ()
            same = all(environ.get(name) == value for name, value in mine.items())
            if same and process.pid != os.getpid():
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=5)


if __name__ == "__main__":
    main(sys.argv[1])
