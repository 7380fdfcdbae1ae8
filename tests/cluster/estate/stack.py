"""A stack of the project's own program on the cluster that the tests use."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.estate.leftovers import leftovers
from tests.cluster.estate.traffic import until
from toolchain.engine import apart
from toolchain.lock import ROOT

NAME = "test"
STAND_IN = ROOT / "tests" / "cluster" / "provider" / "bin"


class ClusterStack:
    """One stack in a temporary folder; its namespace goes with it."""

    def __init__(self, kubeconfig: Path, project: str, *, lean: bool = True) -> None:
        """`lean`: as `toolchain.engine.apart` has it."""
        self.home = Path(tempfile.mkdtemp(prefix="se-"))
        self.folder = self.home / project
        self.namespace = f"{project}-{NAME}"
        (self.folder / "config").mkdir(parents=True)
        (self.home / "backend").mkdir()
        settings = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
        settings["name"] = project
        settings["runtime"]["options"]["virtualenv"] = sys.prefix
        settings["stackConfigDir"] = "config"
        settings["plugins"]["providers"][0]["path"] = str(ROOT / "components")
        settings["backend"] = {"url": f"file://{self.home / 'backend'}"}
        (self.folder / "Pulumi.yaml").write_text(yaml.safe_dump(settings))
        (self.folder / "stacks").symlink_to(ROOT / "stacks")
        # Where the official provider can be had, it is on PATH or fetched; else the stand-in plays its part.
        first = [] if shutil.which("pulumi-resource-kubernetes") else [STAND_IN]
        self.env = apart(self.home, *first, lean=lean) | {"KUBECONFIG": str(kubeconfig), "NO_COLOR": "1"}
        self.pulumi("stack", "init", NAME)

    def configure(self, **blocks: Any) -> None:
        """Write the stack file."""
        prefix = f"{self.folder.name}:"
        config = {f"{prefix}{name}": block for name, block in {"platform": "kubernetes", **blocks}.items()}
        file = self.folder / "config" / f"Pulumi.{NAME}.yaml"
        salt = yaml.safe_load(file.read_text()).get("encryptionsalt") if file.exists() else None
        kept = {"encryptionsalt": salt} if salt else {}
        file.write_text(yaml.safe_dump({"config": config, **kept}))

    def pulumi(self, *words: str, check: bool = True, seconds: int = 900) -> str:
        """Run pulumi; what it said."""
        done = subprocess.run(
            ["pulumi", "--non-interactive", *words],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, f"`pulumi {' '.join(words)}` failed:\n{said}"
        assert check or done.returncode, f"`pulumi {' '.join(words)}` was expected to fail:\n{said}"
        return said

    def up(self, *words: str, check: bool = True, seconds: int = 900) -> str:
        """`pulumi up`."""
        options = ("--yes", "--skip-preview", "--stack", NAME)
        return self.pulumi("up", *options, *words, check=check, seconds=seconds)

    def outputs(self) -> Mapping[str, Any]:
        """The stack's outputs."""
        done = subprocess.run(
            ["pulumi", "stack", "output", "--json", "--stack", NAME],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(json.loads(done.stdout))

    def kubectl(self, *words: str) -> Any:
        """What `kubectl` says of this stack's namespace, as JSON."""
        command = ["kubectl", "--namespace", self.namespace, *words, "--output", "json"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=True)
        return json.loads(done.stdout) if done.stdout else None

    def _left(self) -> str:
        return ", ".join(leftovers(self.env, self.namespace))

    def run(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl in this stack's namespace; what it said."""
        command = ["kubectl", "--namespace", self.namespace, *words]
        done = subprocess.run(command, env=self.env, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"`{' '.join(command)}` failed:\n{done.stderr}"
        return done.stdout

    def pods(self, name: str) -> list[Any]:
        """The pods of a model server that are not ending."""
        found = self.kubectl("get", "pods", f"--selector=app.kubernetes.io/instance={name}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def fake_node(
        self,
        name: str,
        resources: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        taint: Mapping[str, str] | None = None,
    ) -> None:
        """A node that kwok plays, by default for nothing but what asks for a GPU; it goes with the stack."""
        gpu = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"{self.namespace}-{name}",
                "labels": {"estate": self.namespace, **(labels or {})},
                "annotations": {"kwok.x-k8s.io/node": "fake"},
            },
            "spec": {"taints": [taint or gpu]},
            "status": {"allocatable": resources, "capacity": resources},
        }
        command = ["kubectl", "apply", "--filename=-"]  # of no namespace
        subprocess.run(
            command, env=self.env, input=json.dumps(node), text=True, check=True, capture_output=True
        )

    def close(self) -> None:
        """Remove everything, and check that nothing is left."""
        try:
            self.pulumi("destroy", "--yes", "--skip-preview", "--stack", NAME, seconds=1800)
            self.run("delete", "nodes", f"--selector=estate={self.namespace}")
            # What the gateway's controller and the storage's made in other namespaces goes after its cause.
            until(lambda: not leftovers(self.env, self.namespace), 60, self._left)
        finally:
            shutil.rmtree(self.home, ignore_errors=True)
