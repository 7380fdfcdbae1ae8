"""A local stack of its own for tests: the real program, with its state, caches and settings in one folder."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from components.local.machine.marks import HOST
from toolchain.engine import apart
from toolchain.lock import ROOT

SECONDS = 300
NAME = "test"


class LocalStack:
    """One stack of a project that has this checkout's program and plugin."""

    def __init__(self, home: Path | None = None, project: str = "project") -> None:
        # Short, as the path of a Unix socket has to be.
        self.home = home or Path(tempfile.mkdtemp(prefix="se-"))
        self.folder = self.home / project
        self.state = self.home / "state"
        self.temporary = self.home / "tmp"
        backend = self.home / f"{project}.backend"
        for folder in (self.folder / "config", backend, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        settings = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
        settings["runtime"]["options"]["virtualenv"] = sys.prefix
        settings["stackConfigDir"] = "config"
        settings["plugins"]["providers"][0]["path"] = str(ROOT / "components")
        settings["backend"] = {"url": f"file://{backend}?metadata=skip"}
        (self.folder / "Pulumi.yaml").write_text(yaml.safe_dump(settings))
        if not (self.folder / "stacks").exists():
            (self.folder / "stacks").symlink_to(ROOT / "stacks")
        self.env = apart(self.home) | {
            "XDG_STATE_HOME": str(self.state),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "TMPDIR": str(self.temporary),
            "PULUMI_DEBUG_COMMANDS": "1",  # for --event-log
            "NO_COLOR": "1",
        }
        self.events = self.home / f"{project}.events"
        self.log = self.home / f"{project}.log"

    # What is asked for

    def configure(self, **config: Any) -> bool:
        """Write the stack file; whether that changes it."""
        keys = {f"serving-estate:{key}": value for key, value in {"platform": "local", **config}.items()}
        file = self.folder / "config" / f"Pulumi.{NAME}.yaml"
        old = yaml.safe_load(file.read_text()) if file.exists() else {}
        file.write_text(yaml.safe_dump({**old, "config": keys}))
        return bool(old.get("config") != keys)

    # Pulumi

    def _command(self, *arguments: str) -> list[str]:
        if arguments[0] in ("up", "destroy", "refresh"):
            self.events.unlink(missing_ok=True)
            arguments = (*arguments, "--yes", "--skip-preview", "--event-log", str(self.events))
        return ["pulumi", "--non-interactive", *arguments, "--stack", NAME]

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run a pulumi command to its end; returns what it said."""
        done = subprocess.run(
            self._command(*arguments),
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert bool(done.returncode) != check, f"pulumi {arguments}: code {done.returncode}\n{done.stdout}"
        return done.stdout

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Begin a pulumi command, in a process group of its own; its output goes to `self.log`."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command(*arguments),
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def init(self) -> "LocalStack":
        """Make the stack, with nothing in it."""
        self.run("stack", "init")
        return self

    def up(self, *arguments: str) -> str:
        """Bring about what the stack file says."""
        return self.run("up", *arguments)

    def destroy(self) -> None:
        """Take everything down; a lock that a killed run left is broken first."""
        self.run("destroy")

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs."""
        return dict(json.loads(self.run("stack", "output", "--json")))

    def url(self, endpoint: str) -> str:
        """The address of an endpoint."""
        return str(self.outputs()["endpoints"][endpoint]["url"])

    def changes(self) -> dict[str, str]:
        """What the last run did: the operation for each resource that it did not leave alone."""
        changes = {}
        for line in self.events.read_text().splitlines():
            step = json.loads(line).get("resourcePreEvent", {}).get("metadata")
            if step and step["op"] not in ("same", "read", "refresh"):
                kind, name = step["urn"].split("::")[2].split("$")[-1], step["urn"].split("::")[3]
                changes[f"{kind.split(':')[-1]} {name}"] = step["op"]
        return changes

    # What there is

    def processes(self) -> list[psutil.Process]:
        """Every process that any stack of this state folder started."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(HOST, "").startswith(f"{self.state}/"):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def process(self, name: str) -> psutil.Process:
        """The one process of the replica `name`, e.g. `gateway.0`: as its supervisor knows it."""
        found: psutil.Process = wait_until(lambda: self._process(name), f"a running {name}")
        return found

    def _process(self, name: str) -> psutil.Process | None:
        for line in self.supervisorctl("status").splitlines():
            program, state, *rest = line.replace(",", " ").split()
            group, _, index = name.rpartition(".")
            full = program.split(":")[-1]
            if full.startswith(f"{group}.") and full.endswith(f".{index}") and state == "RUNNING":
                return psutil.Process(int(rest[1]))
        return None

    def supervisorctl(self, *arguments: str) -> str:
        """What an operator's own command says."""
        command = [str(Path(sys.prefix) / "bin" / "supervisorctl"), "-c", f"{self.host()}/supervisord.conf"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        return done.stdout

    def host(self) -> Path:
        """The state folder of the one stack."""
        (folder,) = (self.state / "serving-estate").glob("serving-estate-*")
        return folder

    def leases(self) -> dict[int, str]:
        """The ports that are leased, and to whom."""
        return {int(f.name): f.read_text() for f in (self.state / "serving-estate/ports").glob("[0-9]*")}

    def leftovers(self) -> list[str]:
        """What a stack that was destroyed has left, caches and Pulumi's own files apart."""
        left = [f"process {p.pid} {' '.join(p.cmdline())[:120]}" for p in self.processes()]
        left += [str(path) for path in sorted(self.state.rglob("*"))]
        left += [str(path) for path in sorted(self.temporary.rglob("*"))]
        return left

    def supervised(self) -> set[str]:
        """The programs that the supervisor has."""
        return {line.split(":")[0] for line in self.supervisorctl("status").splitlines() if line.strip()}

    def remove(self) -> None:
        """Take it all away, whatever state it is in."""
        for process in self.processes():
            with_children = [process, *_children(process)]
            for one in with_children:
                try:
                    one.send_signal(signal.SIGKILL)
                except psutil.Error:
                    continue
        shutil.rmtree(self.home, ignore_errors=True)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def wait_until(true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait for something to become true; returns what it then was."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)
    return value


def get(url: str, headers: Mapping[str, str] | None = None, data: bytes | None = None) -> tuple[int, str]:
    """The status and the text of an answer; 0 where there is none."""
    request = urllib.request.Request(url, data=data, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
