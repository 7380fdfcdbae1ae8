"""Bringing the cluster up. Every step looks at what is there, so a run that was killed is gone on with."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.local.machine.files import tail
from components.local.machine.supervisor import Program, Supervisor
from toolchain.cache import Progress, ToolError, say

from . import addons, binaries, certificates, control_plane, down, host, images, layout, node, store
from .api import Kubectl, wait
from .commands import run, succeeds, with_system_path

READY_SECONDS = 180


def up(*, control_plane_only: bool = False) -> None:
    """Make the cluster, or mend it; leave alone one that `KUBECONFIG` names.

    Raises:
        ToolError: it cannot be had; the message names the cause and the mend.
    """
    with_system_path()
    if _given():
        return
    host.check()
    down.make_room()
    host.check_free()
    built = binaries.build()
    archives = {} if control_plane_only else images.build(built)
    with Progress("starting the cluster") as progress:
        host.prepare()
        certificates.make()
        supervisor = Supervisor(layout.STATE)
        supervisor.start()
        kubectl = Kubectl(built["kubectl"])
        progress.phase = "control plane"
        _start(supervisor, control_plane.programs(built))
        if control_plane_only:
            _wait_for_api(supervisor, kubectl)
        else:
            containerd, *others = node.programs(built)
            is_new = store.lend()
            _start_containerd(supervisor, containerd)
            # Images are work for the disk, and types for the API server: the one goes on beside the other.
            with ThreadPoolExecutor(max_workers=1) as importing:
                imported = importing.submit(images.load, archives)
                _wait_for_api(supervisor, kubectl)
                addons.types(kubectl, built, progress)
                progress.phase = "importing images"
                if imported.result() and is_new:
                    supervisor.remove([containerd.name])  # it writes to what is to be kept
                    store.keep()
                    _start_containerd(supervisor, containerd)
            progress.phase = "node"
            _start(supervisor, others)
            addons.install(supervisor, kubectl, built, progress)
            progress.phase = "waiting until all of it is ready"
            wait(
                "the node is not ready", lambda: _node_ready(kubectl), READY_SECONDS, lambda: _why(supervisor)
            )
            addons.wait_until_ready(kubectl)
    say(f"the cluster is ready: export KUBECONFIG={layout.KUBECONFIG}")


def _given() -> bool:
    """Say whether `KUBECONFIG` names a cluster that is not ours, and that it is used.

    Raises:
        ToolError: it names one that does not answer.
    """
    named = os.environ.get("KUBECONFIG", "")
    if not named or Path(named).resolve() == layout.KUBECONFIG:
        return False
    kubectl = "kubectl"
    if not succeeds(kubectl, "version", "--client"):
        kubectl = str(binaries.build()["kubectl"])
    try:
        server = run(kubectl, "config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")
        run(kubectl, "get", "--raw=/version", "--request-timeout=10s")
    except ToolError as error:
        raise ToolError(
            f"KUBECONFIG is {named}, but that cluster does not answer: bring it up, or `unset KUBECONFIG` "
            f"for a cluster of this checkout\n{error}"
        ) from error
    say(f"KUBECONFIG names a cluster already, {server}: that one is used, and nothing is made")
    return True


def _start(supervisor: Supervisor, programs: list[Program]) -> None:
    for program in programs:
        supervisor.run(program)


def _why(supervisor: Supervisor) -> str:
    """Return the last words of the parts that are not up."""
    told = []
    for log in sorted(layout.LOGS.glob("*.log")):
        status = supervisor.status(log.stem)
        if status and status.state != "RUNNING":
            told.append(f"{log.stem} is {status.state}; the end of {log}:\n{tail(log, 6)}")
    return "\n".join(told) or f"all its parts run; their logs are in {layout.LOGS}"


def _wait_for_api(supervisor: Supervisor, kubectl: Kubectl) -> None:
    wait("the API server is not ready", kubectl.ready, READY_SECONDS, lambda: _why(supervisor))


def _start_containerd(supervisor: Supervisor, program: Program) -> None:
    _start(supervisor, [program])
    log = layout.LOGS / "containerd.log"
    wait(
        "containerd does not answer",
        lambda: succeeds(*images.CTR, "version"),
        60,
        lambda: f"the end of {log}:\n{tail(log, 6)}",
    )


def _node_ready(kubectl: Kubectl) -> bool:
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    try:
        return kubectl("get", "node", layout.NODE, f"--output=jsonpath={path}") == "True"
    except ToolError:
        return False
