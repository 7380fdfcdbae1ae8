"""Waiting for what was made to work, and saying why it does not."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.cluster.provider.stack import Stack, wait_until

pytestmark = pytest.mark.long

APPS = "/apis/apps/v1"
WEB = """
labels = {{"app": "web"}}
k8s.apps.v1.Deployment(
    "web",
    metadata={{"namespace": NS, "name": "web", "annotations": {{"pulumi.com/timeoutSeconds": "{seconds}"}}}},
    spec={{
        "replicas": 1,
        "progressDeadlineSeconds": 300,
        "minReadySeconds": {steady},
        "selector": {{"matchLabels": labels}},
        "template": {{
            "metadata": {{"labels": labels}},
            "spec": {{
                "terminationGracePeriodSeconds": 0,
                "securityContext": {{"runAsUser": 0}},
                "containers": [
                    {{
                        "name": "web",
                        "image": {image!r},
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", {command!r}],
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "resources": {{"requests": {resources!r}}},
                    }}
                ],
            }},
        }},
    }},
)
"""


def web(image: str, command: str = "sleep 3600", seconds: int = 60, steady: int = 0, **resources: str) -> str:
    wanted = {"cpu": "1m", **resources}
    return WEB.format(image=image, command=command, seconds=seconds, steady=steady, resources=wanted)


def test_an_image_that_cannot_be_had_is_named_and_the_next_run_mends_it(stack: Stack, image: str) -> None:
    said = stack.program(web("registry.invalid/nothing:1", seconds=10)).fails("up")
    assert f"Deployment {stack.namespace}/web is in the cluster, but not ready: not ready after 10 s" in said
    assert "ErrImagePull" in said or "ImagePullBackOff" in said
    assert "registry.invalid/nothing:1" in said

    # It is in the state; without a change it is tried again, and with the right image it is changed.
    assert "ImagePull" in stack.fails("up")
    uid = stack.api.get(stack.path("deployments", "web", APPS))["metadata"]["uid"]
    assert stack.program(web(image)).up() == {"web": "update"}
    live = stack.api.get(stack.path("deployments", "web", APPS))
    assert live["metadata"]["uid"] == uid
    assert live["status"]["availableReplicas"] == 1
    assert stack.up() == {}
    stack.run("destroy")
    assert stack.api.get(stack.path("pods"))["items"] == []


def test_what_a_crashing_container_said_is_told(stack: Stack, image: str) -> None:
    # Without a probe it is ready whenever it runs, for as long as a slow node takes to see its end.
    broken = web(image, command="echo the model is broken; exit 3", seconds=12, steady=60)
    said = stack.program(broken).fails("up")
    assert "exit code 3: the model is broken" in said


def test_pods_that_no_node_takes_are_told(stack: Stack, image: str) -> None:
    said = stack.program(web(image, seconds=5, cpu="999")).fails("up")
    assert "Unschedulable" in said
    assert "Insufficient cpu" in said


def test_pods_that_a_quota_forbids_are_told(stack: Stack, image: str) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    path = stack.path("resourcequotas")
    stack.api.request("POST", path, None, quota)
    wait_until(lambda: "status" in stack.api.get(f"{path}/none"), "a quota that counts")
    said = stack.program(web(image, seconds=5)).fails("up")
    assert "exceeded quota: none" in said


def test_a_job_that_fails_is_told_at_once(stack: Stack, image: str) -> None:
    said = stack.program(
        f"""
        k8s.batch.v1.Job(
            "once",
            metadata={{"namespace": NS, "name": "once"}},
            spec={{
                "backoffLimit": 0,
                "template": {{
                    "spec": {{
                        "restartPolicy": "Never",
                        "securityContext": {{"runAsUser": 0}},
                        "containers": [
                            {{
                                "name": "once",
                                "image": {image!r},
                                "command": ["sh", "-c", "echo no database; exit 1"],
                                "terminationMessagePolicy": "FallbackToLogsOnError",
                            }}
                        ],
                    }}
                }},
            }},
        )
        """
    ).fails("up")
    assert "the job failed: BackoffLimitExceeded" in said
    assert "no database" in said
    assert "not ready after" not in said


RULE = """
k8s.core.v1.ConfigMap(
    "flag",
    metadata={
        "namespace": NS,
        "name": "flag",
        "annotations": {"pulumi.com/waitFor": "jsonpath={.data.ready}=yes"},
    },
    data={"a": "1"},
)
"""


def test_an_interrupted_run_ends_soon_and_what_it_made_is_known(stack: Stack) -> None:
    stack.program(RULE)
    running = stack.start("up")
    wait_until(lambda: _there(stack, "flag"), "the object")
    os.killpg(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=120)  # it would have waited for ten minutes
    assert running.returncode != 0
    assert "there" not in stack.changes()
    assert "flag" in stack.run("stack", "--show-urns")

    # The next run waits on, and is done as soon as the rule holds.
    running = stack.start("up")
    threading.Timer(
        3, lambda: stack.edit(stack.path("configmaps", "flag"), {"data": {"ready": "yes"}})
    ).start()
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said


def _there(stack: Stack, name: str) -> bool:
    return any(one["metadata"]["name"] == name for one in stack.api.get(stack.path("configmaps"))["items"])


def test_a_plugin_does_not_outlive_its_engine(stack: Stack) -> None:
    running = stack.program(RULE).start("up")
    wait_until(lambda: _there(stack, "flag"), "the object")
    running.kill()
    running.communicate()

    def plugins() -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words, environ = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"cluster/provider" in words and str(stack.folder).encode() in environ:
                found.append(entry.name)
        return found

    wait_until(lambda: not plugins(), "an end of the plugin")


class Gate(threading.Thread):
    """A door to the API server that a test can close for a while, as a restart does."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(daemon=True)
        self._target = (host, port)
        self._open: list[socket.socket] = []
        self._lock, self._is_closed = threading.Lock(), False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
                outer = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                if self._is_closed:
                    inner.close()
                    outer.close()
                    return
                self._open += [inner, outer]
            for one, other in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        for each in (one, other):
            each.close()

    def close(self) -> None:
        """Cut every connection, and take no new one."""
        with self._lock:
            self._is_closed = True
            # Closing alone would let a thread that waits in `accept` take one more.
            for each in (self._listener, *self._open):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._open.clear()

    def reopen(self) -> "Gate":
        """A door at the same place."""
        gate = Gate(*self._target)
        gate._listener.close()
        gate._listener = socket.create_server(("127.0.0.1", self.port))
        gate.port = self.port
        gate.start()
        return gate


@pytest.fixture
def gate(kubeconfig: str, stack: Stack) -> Iterator[Gate]:
    """A gate that the stack's only way to the API server leads through."""
    content = yaml.safe_load(Path(kubeconfig).read_text())
    context = next(
        each["context"] for each in content["contexts"] if each["name"] == content["current-context"]
    )
    cluster = next(each["cluster"] for each in content["clusters"] if each["name"] == context["cluster"])
    host, port = cluster["server"].removeprefix("https://").split(":")
    made = Gate(host, int(port))
    made.start()
    cluster |= {"server": f"https://127.0.0.1:{made.port}", "tls-server-name": host}
    file = stack.folder / "kubeconfig"
    file.write_text(yaml.safe_dump(content))
    stack.env["KUBECONFIG"] = str(file)
    yield made
    made.close()


def test_an_api_server_that_is_briefly_away_fails_no_run(stack: Stack, gate: Gate) -> None:
    running = stack.program(RULE).start("up")
    wait_until(lambda: _there(stack, "flag"), "the object")
    gate.close()
    stack.edit(stack.path("configmaps", "flag"), {"data": {"ready": "yes"}})
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for the API server
        running.wait(5)
    gate.reopen()
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
