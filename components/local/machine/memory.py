"""Hold programs to their memory limits, as the kernel holds a container: `python memory.py STATE_FOLDER`.

One such process a stack, under the same supervisor as what it watches. Limits of the kernel's own would
need rights that a user of a laptop does not have, so it looks once a second: what grows by gigabytes a second
is caught late. A program counts with all its children, and is killed with them, without a warning. The
supervisor starts it again as after any other death.
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

if __package__ in (None, ""):  # run by path, for a quick start
    sys.path[0] = str(Path(__file__).resolve().parent)

import marks  # type: ignore[import-not-found, unused-ignore]

_SECONDS = 1.0
_AGAIN_SECONDS = 0.2
_MIB = 2**20


@dataclass(frozen=True)
class Limit:
    """What a program may have, and where its own log is."""

    mib: int
    log: Path


def main(folder: str) -> None:
    """Look again and again, for as long as the supervisor lives that started this process."""
    programs, supervisor = Path(folder) / "supervisor.d", os.getppid()
    while os.getppid() == supervisor:
        look(limits(programs), supervisor)
        time.sleep(_SECONDS)


def limits(programs: Path) -> dict[str, Limit]:
    """The limits by program, as the files say that the supervisor's programs are started from."""
    found = {}
    for file in programs.glob("*.json"):
        with suppress(FileNotFoundError):  # it has just been removed
            told = json.loads(file.read_text())
            if "memory_mib" in told:
                found[told["name"]] = Limit(told["memory_mib"], Path(told["log"]))
    return found


def look(limits: Mapping[str, Limit], supervisor: int) -> None:
    """Kill each of the supervisor's programs that is over its limit, and write down why.

    Processes are asked one after the other. A program that forks meanwhile shows pages that are shared as if
    they were held by each, so what is over its limit is asked once more.
    """
    if any(_is_over(family, limits.get(name)) for name, family in _families(supervisor).items()):
        time.sleep(_AGAIN_SECONDS)
        for name, family in _families(supervisor).items():
            if _is_over(family, limits.get(name)):
                say(name, limits[name], held_by(family, 0))
                kill(family, supervisor)


def _families(supervisor: int) -> Mapping[str, Sequence[psutil.Process]]:
    """The processes of each program."""
    families: defaultdict[str, list[psutil.Process]] = defaultdict(list)
    for process in psutil.Process(supervisor).children(recursive=True):
        with suppress(psutil.Error, OSError):
            families[process.environ().get(marks.PROGRAM, "")].append(process)
    return families


def _is_over(family: Sequence[psutil.Process], limit: Limit | None) -> bool:
    return limit is not None and held_by(family, limit.mib * _MIB) > limit.mib * _MIB


def held_by(family: Sequence[psutil.Process], enough: int) -> int:
    """The bytes of memory that processes hold together and that the kernel cannot take back.

    Pages of files do not count, since they can be read again; pages that a parent shares with its children
    count once. For that the kernel has to walk all of them, so what is resident, which is never less, is
    asked first, and is the answer where it is not more than `enough`.
    """
    resident = 0
    for process in family:
        with suppress(psutil.Error):
            resident += process.memory_info().rss
    return resident if resident <= enough else sum(_own(process) for process in family)


def _own(process: psutil.Process) -> int:
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:  # it has just ended, or this is no Linux
        with suppress(psutil.Error):
            return int(process.memory_full_info().uss)
        return 0
    fields = (line.split() for line in text.splitlines()[1:])
    told = {name.rstrip(":"): kib for name, kib, *_ in fields}
    return 1024 * sum(int(told[name]) for name in ("Pss_Anon", "Pss_Shmem"))


def say(name: str, limit: Limit, held: int) -> None:
    """Tell it in the program's own log, where its last words are looked for, and in this process's."""
    line = (
        f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} memory limit: {name} is killed: it holds "
        f"{held / _MIB:.0f} MiB and may hold {limit.mib} MiB; it is started again. Raise "
        "`resources.memory_mib` of its variant if that is what it needs"
    )
    print(line, flush=True)
    with suppress(OSError), limit.log.open("a") as log:
        log.write(f"{line}\n")


def kill(family: Iterable[psutil.Process], supervisor: int) -> None:
    """SIGKILL for all of a program's processes, the parent first: it would replace its children."""
    for process in sorted(family, key=lambda one: one.ppid() != supervisor):
        with suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    main(sys.argv[1])
