"""The process supervisor of a local stack: one supervisord, spoken to over its Unix socket.

supervisord restarts what dies, keeps and rotates the logs, and outlives the `pulumi up` that started
it. It listens on no port.
"""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from .files import locked, remove, tail, write
from .marks import HOST

RUNNING_STATES = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})

# No call waits for a program, so an answer that takes this long will not come.
_ANSWER_SECONDS = 20

# A Unix socket's path may have 107 characters at most, on macOS 103; supervisord binds it under a longer
# name first, with its process number at the end.
_LONGEST_SOCKET = 90


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
    has_children: bool = False
    """It starts processes that it does not take with it when it is killed."""
    stop_seconds: float = 10
    """How long it may take to stop after SIGTERM before it is killed."""
    memory_mib: int | None = None
    """The memory, in MiB, that it may hold with its children: over it, they are killed (`memory.py`)."""


@dataclass(frozen=True)
class Status:
    """What the supervisor says of one program."""

    state: str
    exit_code: int
    pid: int
    started: float
    """Seconds since the epoch; 0 before the first start."""

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
        self._socket = folder / "supervisor.sock"
        if len(str(self._socket)) > _LONGEST_SOCKET:
            # Not $TMPDIR, which may be another one the next time.
            digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
            self._socket = Path("/tmp") / f"serving-estate-{os.getuid()}-{digest}.sock"  # noqa: S108

    def _call(self, method: str, *arguments: Any) -> Any:
        """What supervisord answers.

        Raises:
            xmlrpc.client.Fault: it refuses.
            RuntimeError: it does not answer.
        """
        transport = _Transport(str(self._socket))
        server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(server.supervisor, method)(*arguments)
        except (OSError, HTTPException, xmlrpc.client.ProtocolError) as error:
            raise RuntimeError(
                f"the supervisor of the processes in {self.folder} does not answer ({error}); "
                "`pulumi refresh`, then `pulumi up`, starts it again"
            ) from error
        finally:
            transport.close()

    def alive(self) -> bool:
        """Whether supervisord answers."""
        try:
            self._call("getState")
        except (RuntimeError, xmlrpc.client.Error):
            return False
        return True

    def start(self) -> None:
        """Make sure that supervisord runs, with the programs that its folder declares.

        Raises:
            RuntimeError: it did not come up within 20 s; the message holds its log's last lines.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # settings and logs are nobody else's affair
        with locked(self.folder / "supervisord.lock"):  # of two that find none, one starts it
            if not self.alive():
                self._start_supervisord()

    def _start_supervisord(self) -> None:
        self.end_strays()
        for folder in (self._programs, self.folder / "logs", self.folder / "tmp"):
            folder.mkdir(exist_ok=True)
        write(self._conf, self._config())
        executable = Path(sys.executable).with_name("supervisord")
        started = subprocess.run(  # it puts itself into the background, in a session of its own
            [str(executable), "-c", str(self._conf)],
            env=_environment(self.folder),
            capture_output=True,
            text=True,
            check=False,
        )
        deadline = time.monotonic() + 20
        while not self.alive():
            if started.returncode or time.monotonic() > deadline:
                said = started.stderr.strip() or started.stdout.strip() or tail(self._log)
                raise RuntimeError(f"supervisord did not start: {said}")
            time.sleep(0.02)

    @property
    def _log(self) -> Path:
        return self.folder / "logs" / "supervisord.log"

    def _config(self) -> str:
        folder = _text(self.folder)
        return f"""[supervisord]
nodaemon=false
directory={folder}
pidfile={folder}/supervisord.pid
logfile={folder}/logs/supervisord.log
logfile_maxbytes=10MB
logfile_backups=1
childlogdir={folder}/logs
minfds=1024
umask=077

[unix_http_server]
file={_text(self._socket)}
chmod=0600

[supervisorctl]
serverurl=unix://{_text(self._socket)}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files=supervisor.d/*.ini
"""

    def stop(self) -> None:
        """End supervisord and everything it started, in order; then whatever is left of it."""
        if self.alive():
            with suppress(FileNotFoundError, ValueError, psutil.Error, RuntimeError):
                process = psutil.Process(int((self.folder / "supervisord.pid").read_text()))
                self._call("shutdown")
                process.wait(timeout=60)
        self.end_strays()
        self._socket.unlink(missing_ok=True)

    def end_strays(self) -> None:
        """End processes of this stack that no supervisor looks after any more.

        The supervisor itself goes first, and at once: it would start again what is ended here.
        """
        strays = [process for process in psutil.process_iter() if self._is_ours(process)]
        for process in strays:
            with suppress(psutil.Error):
                if "supervisord" in " ".join(process.cmdline()):
                    process.kill()
        for process in strays:
            with suppress(psutil.Error):
                process.terminate()
        _, left = psutil.wait_procs(strays, timeout=5)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(HOST) == str(self.folder) and process.pid != os.getpid()
        except (psutil.Error, OSError):
            return False

    def run(self, program: Program) -> None:
        """Make sure that `program` is running as declared; nothing happens where it already is."""
        if program.memory_mib is not None:
            self.run(self._memory_watch())
        file = self._programs / f"{program.name}.ini"
        launch = self._programs / f"{program.name}.json"
        texts = {launch: _launch(program), file: _section(program, launch)}
        if file.exists() and any(path.read_text() != text for path, text in texts.items()):
            self.remove([program.name])
        if not file.exists():
            program.log.parent.mkdir(parents=True, exist_ok=True)
            for path, text in texts.items():
                write(path, text)
        self._call("reloadConfig")
        try:
            self._call("addProcessGroup", program.name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != Faults.ALREADY_ADDED:
                raise
            self._start(program)

    def _memory_watch(self) -> Program:
        return Program(
            name="memory",
            command=[sys.executable, str(Path(__file__).with_name("memory.py")), str(self.folder)],
            env={},
            directory=self.folder,
            log=self.folder / "logs" / "memory.log",
            stop_seconds=1,
        )

    def _start(self, program: Program) -> None:
        status = self.status(program.name)
        done = status and status.state == "EXITED" and status.exit_code == 0 and not program.keep_running
        if status is None or status.running or done:
            return
        try:
            self._call("startProcess", f"{program.name}:{program.name}", False)
        except xmlrpc.client.Fault as fault:
            # Whoever waits for it sees what has become of it.
            if fault.faultCode not in (Faults.ALREADY_STARTED, Faults.SPAWN_ERROR):
                raise

    def remove(self, names: Sequence[str]) -> None:
        """Stop programs, all at once, and forget them. Each gets SIGTERM and its own time to finish."""
        if self.alive():
            known = [name for name in names if self._stop(name)]
            for name in known:
                # supervisord kills what outstays its time.
                while (status := self.status(name)) and status.running:
                    time.sleep(0.02)
                with suppress(xmlrpc.client.Fault):  # somebody else was faster
                    self._call("removeProcessGroup", name)
        # Last, so that a run that is killed here finds the programs again and ends them.
        for name in names:
            remove(self._programs / f"{name}.ini")
            remove(self._programs / f"{name}.json")

    def _stop(self, name: str) -> bool:
        """Ask a program to stop; whether there is such a program."""
        try:
            self._call("stopProcessGroup", name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != Faults.BAD_NAME:
                raise
            return False
        return True

    def status(self, name: str) -> Status | None:
        """The state of a program, or None where the supervisor does not know it."""
        try:
            info = self._call("getProcessInfo", f"{name}:{name}")
        except (RuntimeError, xmlrpc.client.Fault):
            return None
        return Status(info["statename"], info["exitstatus"], info["pid"], info["start"])


class _Connection(HTTPConnection):
    """HTTP over a Unix socket, with a bound on every wait."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_SECONDS)
        self.sock.connect(self._path)


class _Transport(SupervisorTransport):  # type: ignore[misc]  # it has no types
    def __init__(self, path: str) -> None:
        super().__init__(serverurl=f"unix://{path}")
        self._get_connection = lambda: _Connection(path)


def _environment(folder: Path) -> dict[str, str]:
    """What servers inherit: credentials and locale, but nothing that Pulumi told its own programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    for name in ("NO_PROXY", "no_proxy"):  # no proxy leads to this machine
        kept[name] = ",".join(filter(None, [kept.get(name), "127.0.0.1,localhost"]))
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return kept | {
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(folder / "tmp"),  # what they leave there goes with the stack
        # Both are on by default, and nothing of a local stack talks to anybody outside.
        "ORT_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        HOST: str(folder),
    }


def _launch(program: Program) -> str:
    wanted = {
        "name": program.name,
        "command": list(program.command),
        "env": dict(program.env),
        "directory": str(program.directory),
        "has_children": program.has_children,
    }
    if program.memory_mib is not None:
        wanted |= {"memory_mib": program.memory_mib, "log": str(program.log)}
    return json.dumps(wanted, indent=1, sort_keys=True) + "\n"


def _section(program: Program, launch: Path) -> str:
    command = [sys.executable, str(Path(__file__).with_name("start.py")), str(launch)]
    # A server ends its own children, in its own order; a job knows nothing of that.
    with_children = str(program.has_children and not program.keep_running).lower()
    return f"""[program:{program.name}]
command={" ".join(f'"{_text(word)}"' for word in command)}
autostart=true
autorestart={str(program.keep_running).lower()}
startsecs={1 if program.keep_running else 0}
startretries={1000000 if program.keep_running else 0}
stopsignal=TERM
stopwaitsecs={max(1, round(program.stop_seconds))}
stopasgroup={with_children}
killasgroup=true
stdout_logfile={_text(program.log)}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2
redirect_stderr=true
"""


def _text(path: Path | str) -> str:
    """A path in supervisord's format, in which some signs cannot be written everywhere."""
    text = str(path)
    if wrong := [sign for sign in ("%", '"', "\\", "\n", " ;", " #") if sign in text]:
        raise ValueError(
            f"the path {text!r} has {wrong[0]!r} in it, which the supervisor cannot read; set "
            "XDG_STATE_HOME to another folder, or move the project"
        )
    return text
