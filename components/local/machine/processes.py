"""Process groups: replicas of one command, changed without a gap.

A *generation* is one version of a group's command and files, named by their digest. Changing the
group starts the new generation beside the old one, waits until every replica is ready, points the
group's endpoint files at it, and only then stops the old one. Every step can be repeated: after a
kill at any moment, converging again ends in the same place.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from pathlib import Path
from threading import Event
from typing import Any

from ...provider.kind import Cancelled
from . import envoy, loopback, ports
from .files import locked, read_json, tail, write, write_json
from .supervisor import Program, Supervisor


@dataclass(frozen=True)
class Group:
    """What a process group should be.

    `@NAME@` in a word of the command, in a value of the environment or in a file stands for the
    replica's port of that name, `@dir@` for the folder that holds its files and `@data@` for the
    group's own folder, which is kept from one generation to the next.
    """

    name: str
    command: Sequence[str]
    ports: Sequence[str]
    ready_path: str
    """Answers 200 on the first port once the replica can do its work."""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 1
    overlap: bool = True
    """Start the new generation beside the old one. Without it the old one is stopped first and the
    ports stay the same: for what owns data, or is reached at an address that may not change."""
    has_children: bool = False
    """Its processes do not go with it when it is killed."""
    stop_seconds: float = 10
    ready_seconds: float = 120
    told: Mapping[str, str] = field(default_factory=dict)
    """What the gateway may tell clients of its replicas."""
    memory_mib: int | None = None
    """The memory, in MiB, that a replica may hold; over it, it is killed and started again."""

    @property
    def generation(self) -> str:
        """Names the version of everything that a running process cannot change."""
        fixed = {k: v for k, v in asdict(self).items() if k not in ("replicas", "ready_seconds", "told")}
        if self.memory_mib is None:  # as those are named that were started before there were limits
            del fixed["memory_mib"]
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Replica:
    """A running copy: its program's name and the port numbers it listens on."""

    program: str
    ports: Mapping[str, int]
    log: Path


class ProcessGroups:
    """The process groups of one local stack."""

    def __init__(self, folder: Path, cancelled: Event) -> None:
        """`folder` is the stack's state folder; `cancelled` ends every wait."""
        self.folder = folder
        self.supervisor = Supervisor(folder)
        self._cancelled = cancelled

    def data(self, name: str) -> Path:
        """The folder of a group's own data."""
        return self.folder / "data" / name

    def service(self, name: str) -> Path:
        """What a route is given to find the replicas: `envoy.endpoint_file` has the rest."""
        return self.folder / "endpoints" / name

    def _generations(self, name: str) -> Path:
        return self.folder / "groups" / name

    def converge(self, group: Group, seconds: float) -> list[Replica]:
        """Make the group what it should be, and return its replicas once they are all ready.

        Args:
            group: what it should be.
            seconds: the longest wait for a replica to be ready; 0 for the group's own bound.

        Raises:
            RuntimeError: a replica does not become ready; the message holds the last lines of its
                log. The generation that ran before goes on serving.
            Cancelled: the engine asked to stop.
        """
        self.supervisor.start()
        with locked(self._generations(group.name) / "lock"):
            before = self._serving(group.name)
            if not group.overlap:
                self._end(group.name, keep=group.generation)
            try:
                replicas = [self._start(group, index) for index in range(group.replicas)]
                served = before["replicas"] if before.get("generation") == group.generation else 0
                for index, replica in enumerate(replicas):
                    bound = seconds or group.ready_seconds
                    self._wait_until_ready(group, replica, bound, new=index >= served)
            except (RuntimeError, OSError):
                if before.get("generation") == group.generation:
                    self._trim(group, before["replicas"])
                else:
                    self._end(group.name, only=group.generation)
                raise
            write_json(
                self._generations(group.name) / "serving.json",
                {"generation": group.generation, "replicas": group.replicas},
            )
            for port in group.ports:
                file = envoy.endpoint_file(self.service(group.name), port)
                numbers = [replica.ports[port] for replica in replicas]
                health = [replica.ports[group.ports[0]] for replica in replicas]
                write_json(file, envoy.endpoints(file.stem, numbers, health, group.told))
            self._end(group.name, keep=group.generation)
            self._trim(group, group.replicas)
            return replicas

    def _serving(self, name: str) -> dict[str, Any]:
        """The generation that the endpoint files point at, and how many replicas of it."""
        return read_json(self._generations(name) / "serving.json") or {}

    def running(self, name: str) -> int:
        """How many replicas of the serving generation are up."""
        prefix = f"{name}.{self._serving(name).get('generation')}."
        programs = [file.stem for file in (self.folder / "supervisor.d").glob("*.ini")]
        states = [self.supervisor.status(program) for program in programs if program.startswith(prefix)]
        return sum(1 for state in states if state and state.running)

    def delete(self, name: str) -> None:
        """Stop the group's processes and remove its files, data and ports."""
        with locked(self._generations(name) / "lock"):
            for file in (self.folder / "endpoints").glob(f"{name}.*.json"):
                write_json(
                    file, envoy.endpoints(file.stem, [], [])
                )  # the gateway stops sending before the processes go
            self._end(name)
            for file in (self.folder / "endpoints").glob(f"{name}.*.json"):
                file.unlink()
            shutil.rmtree(self.data(name), ignore_errors=True)
            ports.release(self._owner(name))
        shutil.rmtree(self._generations(name), ignore_errors=True)

    def _owner(self, name: str, *parts: str) -> str:
        return "/".join([f"{self.folder}:{name}", *parts])

    def _start(self, group: Group, index: int) -> Replica:
        generation = group.generation
        # Overlapping generations need ports of their own; the others keep theirs for good.
        slot = [generation, str(index)] if group.overlap else ["fixed", str(index)]
        home = self._generations(group.name) / generation / str(index)
        home.mkdir(parents=True, exist_ok=True)  # first: what a killed run leaves is found by this folder
        self.data(group.name).mkdir(parents=True, exist_ok=True)
        numbers = {port: ports.lease(self._owner(group.name, *slot, port)) for port in group.ports}
        names = {**{port: str(number) for port, number in numbers.items()}}
        names |= {"dir": str(home), "data": str(self.data(group.name))}
        for file, text in group.files.items():
            write(home / file, _fill(text, names))
        program = Program(
            name=f"{group.name}.{generation}.{index}",
            command=[_fill(word, names) for word in group.command],
            env={key: _fill(value, names) for key, value in group.env.items()},
            directory=home,
            log=self.folder / "logs" / f"{group.name}.{index}.log",
            has_children=group.has_children,
            stop_seconds=group.stop_seconds,
            memory_mib=group.memory_mib,
        )
        self.supervisor.run(program)
        return Replica(program.name, numbers, program.log)

    def _wait_until_ready(self, group: Group, replica: Replica, seconds: float, new: bool) -> None:
        url = f"http://127.0.0.1:{replica.ports[group.ports[0]]}{group.ready_path}"
        deadline = time.monotonic() + seconds
        pid = 0
        while True:
            # Ready is only believed of a process that the supervisor says is ours and up.
            status = self.supervisor.status(replica.program)
            if status and new:  # one that served before may have been killed just now: it gets its time
                pid = pid or status.pid
                if status.state in ("BACKOFF", "FATAL", "EXITED") or status.pid not in (0, pid):
                    self._fail(group, replica, "exited before it was ready")
            if status and status.running and _answers(url):
                return
            if self._cancelled.is_set():
                raise Cancelled
            if time.monotonic() > deadline:
                self._fail(group, replica, f"was not ready within {seconds:g} s (asked {url})")
            time.sleep(0.05)

    def _fail(self, group: Group, replica: Replica, what: str) -> None:
        last = tail(replica.log) or "(nothing)"
        raise RuntimeError(f"{group.name} {what}; the last lines of its log {replica.log}:\n{last}")

    def _end(self, name: str, keep: str | None = None, only: str | None = None) -> None:
        homes = [
            home
            for home in sorted(self._generations(name).glob("*/"))
            if home.name != keep and only in (None, home.name)
        ]
        self.supervisor.remove(
            [f"{name}.{home.name}.{replica.name}" for home in homes for replica in home.iterdir()]
        )
        for home in homes:
            ports.release(self._owner(name, home.name))
            shutil.rmtree(home, ignore_errors=True)

    def _trim(self, group: Group, replicas: int) -> None:
        """End the replicas from the number `replicas` on."""
        home = self._generations(group.name) / group.generation
        slot = group.generation if group.overlap else "fixed"
        spare = [replica for replica in sorted(home.iterdir()) if int(replica.name) >= replicas]
        self.supervisor.remove([f"{group.name}.{group.generation}.{replica.name}" for replica in spare])
        for replica in spare:
            ports.release(self._owner(group.name, slot, replica.name))
            shutil.rmtree(replica, ignore_errors=True)


def _fill(text: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"@{name}@", value)
    return text


def _answers(url: str) -> bool:
    try:
        with loopback.get(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, HTTPException):
        return False
