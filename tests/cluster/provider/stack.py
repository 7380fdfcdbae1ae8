"""A project of its own for tests: the real engine, this provider, a real cluster, and state in one folder."""

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolchain.engine import apart

from .api import Api

BIN = Path(__file__).parent / "bin"
SECONDS = 400
HEAD = """
import pulumi
import pulumi_kubernetes as k8s
from pulumi import ResourceOptions as Options

NS = {namespace!r}
"""


class Stack:
    """A stack `test`, whose program a test writes."""

    def __init__(self, folder: Path, kubeconfig: str, namespace: str, api: Api) -> None:
        self.folder, self.namespace, self.api = folder, namespace, api
        (folder / "state").mkdir(parents=True)
        (folder / "Pulumi.yaml").write_text(
            f"name: sample\nruntime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n"
        )
        self.events = folder / "events"
        self.env = apart(folder, BIN) | {
            "KUBECONFIG": kubeconfig,
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}?metadata=skip",
            "PULUMI_DEBUG_COMMANDS": "1",  # for --event-log
            "NO_COLOR": "1",
        }
        self.run("stack", "init")

    def program(self, text: str) -> "Stack":
        """Write the program; `NS` in it is the test's own namespace."""
        head = HEAD.format(namespace=self.namespace)
        (self.folder / "__main__.py").write_text(head + textwrap.dedent(text))
        return self

    def command(self, *arguments: str) -> list[str]:
        """The whole command line of a pulumi command."""
        if arguments[0] in ("up", "destroy", "refresh", "preview"):
            self.events.unlink(missing_ok=True)
            arguments = (*arguments, "--event-log", str(self.events))
        if arguments[0] in ("up", "destroy", "refresh"):
            arguments = (*arguments, "--yes", "--skip-preview")
        return ["pulumi", "--non-interactive", *arguments, "--stack", "test"]

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run a pulumi command to its end; returns what it said. Without `check` it has to fail."""
        running = self.start(*arguments)
        try:
            said, _ = running.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            raise AssertionError(f"pulumi {arguments} did not end:\n{running.communicate()[0]}") from None
        assert bool(running.returncode) != check, f"pulumi {arguments}: code {running.returncode}\n{said}"
        assert "Traceback" not in said, said
        return said

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Begin a pulumi command, in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def up(self, *arguments: str) -> dict[str, str]:
        """Bring about what the program says; returns what was done."""
        self.run("up", *arguments)
        return self.changes()

    def fails(self, *arguments: str) -> str:
        """Run a command that has to fail; returns its words on one line, as a message may be broken."""
        return " ".join(self.run(*arguments, check=False).split())

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs."""
        return dict(json.loads(self.run("stack", "output", "--json")))

    def changes(self) -> dict[str, str]:
        """What the last run did to each resource that it did not leave alone, by the resource's name."""
        changes: dict[str, str] = {}
        for line in self.events.read_text().splitlines():
            step = json.loads(line).get("resourcePreEvent", {}).get("metadata")
            if (
                step
                and step["op"] not in ("same", "read", "refresh", "discard")
                and "pulumi:" not in step["type"]
            ):
                name = step["urn"].split("::")[3]
                changes[name] = f"{changes[name]}, {step['op']}" if name in changes else step["op"]
        return changes

    # The cluster, past Pulumi

    def path(self, plural: str, name: str = "", root: str = "/api/v1") -> str:
        """Where objects of a kind are, in the test's namespace."""
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def edit(self, path: str, patch: dict[str, Any], manager: str = "kubectl-edit") -> dict[str, Any]:
        """Change an object as somebody with kubectl, or another program, does."""
        content = "application/merge-patch+json"
        return self.api.request("PATCH", path, {"fieldManager": manager}, patch, content).body


def wait_until(true: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    """Wait for something to become true; returns what it then was."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
    return value
