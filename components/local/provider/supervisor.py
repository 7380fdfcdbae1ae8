"""The process supervisor of a local stack: one supervisord, spoken to over its Unix socket.

supervisord restarts what dies, keeps and rotates the logs, and outlives the `pulumi up` that started
it. It listens on no port.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from .files import remove, write

# Every process of a stack carries the stack's folder in its environment: what its supervisor lost
# track of (because it was killed itself) is found by it.
MARK = "SERVING_ESTATE_HOST"

RUNNING_STATES = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})


@dataclass(frozen=True)
class Program:
    """A process to keep running."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    directory: Path
    log: Path
    keep_running: bool = True
    """Start it again when it exits; a job is run once instead."""
    stop_seconds: float = 10
    """How long it may take to stop after SIGTERM before it is killed."""


@dataclass(frozen=True)
class Status:
    """What the supervisor says of one program."""

    state: str
    exit_code: int
    pid: int
    started: float
    """Seconds since the epoch."""

    @property
    def running(self) -> bool:
        """The process is up, or about to be."""
        return self.state in RUNNING_STATES


class Supervisor:
    """The supervisord whose files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the state folder of the local stack."""
        self.folder = folder
        self._conf = folder / "supervisord.conf"
        self._programs = folder / "supervisor.d"
        # A Unix socket's path may have 107 characters at most, and a home directory may be deep.
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        self._socket = Path(tempfile.gettempdir()) / f"serving-estate-{os.getuid()}-{digest}.sock"

    def _server(self) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def alive(self) -> bool:
        """Whether supervisord answers."""
        try:
            self._server().getState()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def start(self) -> None:
        """Make sure that supervisord runs, with the programs that its folder declares.

        Raises:
            RuntimeError: it did not come up within 20 s; the message holds its log's last lines.
        """
        if self.alive():
            return
        self.end_strays()
        for folder in (self._programs, self.folder / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        write(self._conf, self._config())
        executable = Path(sys.executable).with_name("supervisord")
        started = subprocess.run(  # it puts itself into the background, in a session of its own
            [str(executable), "-c", str(self._conf)],
            env={**os.environ, MARK: str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        deadline = time.monotonic() + 20
        while not self.alive():
            if started.returncode or time.monotonic() > deadline:
                raise RuntimeError(
                    f"supervisord did not start: {started.stderr.strip() or started.stdout.strip()}"
                )
            time.sleep(0.05)

    def _config(self) -> str:
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}".replace("%", "%%")
        return f"""[supervisord]
nodaemon=false
directory={self.folder}
pidfile={self.folder}/supervisord.pid
logfile={self.folder}/logs/supervisord.log
logfile_maxbytes=10MB
logfile_backups=1
minfds=1024
umask=077
environment=PATH="{path}",PYTHONUNBUFFERED="1",{MARK}="{self.folder}"

[unix_http_server]
file={self._socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files={self._programs}/*.ini
"""

    def stop(self) -> None:
        """End supervisord and everything it started, in order; then whatever is left of it."""
        if self.alive():
            with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
                process = psutil.Process(int((self.folder / "supervisord.pid").read_text()))
                self._server().shutdown()
                process.wait()
        self.end_strays()
        self._socket.unlink(missing_ok=True)

    def end_strays(self) -> None:
        """End processes of this stack that no supervisor looks after any more."""
        strays = [process for process in psutil.process_iter() if self._is_ours(process)]
        for process in strays:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(strays, timeout=5)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == str(self.folder) and process.pid != os.getpid()
        except (psutil.Error, OSError):
            return False

    def run(self, program: Program) -> None:
        """Make sure that `program` is running as declared; nothing happens where it already is."""
        file = self._programs / f"{program.name}.ini"
        text = _section(program)
        server = self._server()
        if file.exists() and file.read_text() != text:
            self.remove(program.name)
        if not file.exists():
            program.log.parent.mkdir(parents=True, exist_ok=True)
            write(file, text)
        server.reloadConfig()
        try:
            server.addProcessGroup(program.name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != Faults.ALREADY_ADDED:
                raise
            self._start(program)

    def _start(self, program: Program) -> None:
        status = self.status(program.name)
        if status is None or status.running or (status.state == "EXITED" and not program.keep_running):
            return
        try:
            self._server().startProcess(f"{program.name}:{program.name}", False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in (Faults.ALREADY_STARTED, Faults.SPAWN_ERROR):
                raise

    def remove(self, name: str) -> None:
        """Stop the program and forget it. It gets SIGTERM and its own time to finish."""
        if self.alive():
            server = self._server()
            for call in (server.stopProcessGroup, server.removeProcessGroup):
                try:
                    call(name)
                except xmlrpc.client.Fault as fault:
                    if fault.faultCode not in (Faults.BAD_NAME, Faults.NOT_RUNNING):
                        raise
        # Last, so that a run that is killed here finds the program again and ends it.
        remove(self._programs / f"{name}.ini")

    def status(self, name: str) -> Status | None:
        """The state of a program, or None where the supervisor does not know it."""
        try:
            info = self._server().getProcessInfo(f"{name}:{name}")
        except (OSError, xmlrpc.client.Error):
            return None
        return Status(info["statename"], info["exitstatus"], info["pid"], info["start"])


def _section(program: Program) -> str:
    # `%` starts an expansion in supervisord's files.
    quote = {'"': '\\"', "%": "%%", "\\": "\\\\"}
    env = ",".join(f'{key}="{_escape(value, quote)}"' for key, value in sorted(program.env.items()))
    command = " ".join(f'"{_escape(word, quote)}"' for word in program.command)
    restart = "true" if program.keep_running else "false"
    return f"""[program:{program.name}]
command={command}
environment={env}
directory={program.directory}
autostart=true
autorestart={restart}
startsecs={1 if program.keep_running else 0}
startretries={1000000 if program.keep_running else 0}
stopsignal=TERM
stopwaitsecs={max(1, round(program.stop_seconds))}
stopasgroup=false
killasgroup=true
stdout_logfile={program.log}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2
redirect_stderr=true
"""


def _escape(text: str, table: Mapping[str, str]) -> str:
    if "\n" in text:
        raise ValueError(f"a line break cannot be part of a command or its environment: {text!r}")
    return "".join(table.get(character, character) for character in text)
