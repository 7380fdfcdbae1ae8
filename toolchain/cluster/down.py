"""Removing the cluster, whatever state it is in: nothing of it is left but what is in the cache."""

import os
import re
import shutil
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from components.local.machine.supervisor import Supervisor
from toolchain.cache import Progress, ToolError, say

from . import host, layout, traces
from .api import wait
from .commands import run, succeeds, with_system_path

RUNC = Path("/run/containerd/runc/k8s.io")
SHIMS = Path("/run/containerd/s")
COUNTERS = ("ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts")
CHAIN = re.compile(r":((?:KUBE|CNI)-\S+)")
RULE = re.compile(r"-A (?!KUBE-|CNI-)")


def down() -> None:
    """Remove every trace; where there is none, do nothing.

    Raises:
        ToolError: something cannot be removed, or is left; the message names it.
    """
    with_system_path()
    if os.geteuid():
        raise ToolError("a cluster is root's: run it again with sudo")
    others = host.owner() not in (None, layout.STATE)
    if not layout.STATE.exists() and (others or not traces.left(layout.STATE)):
        say("there is no cluster of this checkout")
        return
    with Progress("removing the cluster") as progress:
        if not others:
            _off_the_host(layout.STATE, progress)
        progress.phase = "files"
        shutil.rmtree(layout.STATE, ignore_errors=not layout.STATE.exists())
        if not others:
            _nothing_is_left(layout.STATE)


def make_room() -> None:
    """Take a cluster of another checkout off this host if nobody can use it; its files stay where they are.

    Whoever ends all processes of a run, or deletes its checkout, leaves mounts, networks and rules behind,
    and nobody would come to remove them.

    Raises:
        ToolError: it can be used; the message says how, and how it is removed.
    """
    other = host.owner()
    if other is None or other == layout.STATE:
        return
    if (other / host.BEFORE.name).exists() and any(traces.processes(other)):
        raise ToolError(
            f"a cluster of {other.parent} runs on this host already, and there is room for one: use it by "
            f"`export KUBECONFIG={other}/kubeconfig`, or remove it by `make -C {other.parent} cluster-down`"
        )
    say(f"a cluster of {other.parent} was left on this host and cannot be used any more")
    with Progress("removing its traces") as progress:
        _off_the_host(other, progress)
        _nothing_is_left(other)


def _off_the_host(state: Path, progress: Progress) -> None:
    for title, step in STEPS:
        progress.phase = title
        step(state)


def _nothing_is_left(state: Path) -> None:
    if left := traces.left(state):
        raise ToolError(f"{len(left)} traces are left, the first: {'; '.join(left[:5])}")
    layout.OWNER.unlink(missing_ok=True)


def _processes(state: Path) -> None:
    """Stop the parts, then end the containers, which outlive them so that a restart finds them again."""
    Supervisor(state).stop()

    def gone() -> bool:
        """Also where a killed run left them; a shim that sees its container end may start another command."""
        shims = list(traces.processes(state))
        pids = [pid for group in traces.cgroups() for pid in _pids(group)]
        for process in shims:
            with suppress(psutil.Error):
                process.kill()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not shims and not pids

    wait("processes of the cluster do not end", gone, 60, lambda: "; ".join(traces.left(state)[:3]))


def _pids(group: Path) -> list[int]:
    with suppress(OSError):
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    return []


def _cgroups(_state: Path) -> None:
    """Remove the folders; that of a process which just ended is let go of a moment later."""

    def gone() -> bool:
        for group in traces.cgroups():
            with suppress(OSError):
                group.rmdir()
        return not traces.cgroups()

    wait("control groups cannot be removed", gone, 20, lambda: ", ".join(map(str, traces.cgroups()[:3])))


def _mounts(state: Path) -> None:
    """Unmount what lies in the state folder, and let the pods' network namespaces go."""
    sandboxes = _containers(state)
    for point in reversed(traces.mounts(state)):
        run("umount", "--lazy", point)
    # The folder is about to be deleted, and what is mounted in it would be too.
    if left := traces.mounts(state):
        raise ToolError(
            f"{left[0]} cannot be unmounted: see `findmnt {left[0]}`, unmount it, and run this again"
        )
    for namespace in traces.namespaces():
        succeeds("umount", "--lazy", namespace)
        namespace.unlink(missing_ok=True)
    for sandbox in sandboxes:
        shutil.rmtree(RUNC / sandbox, ignore_errors=True)


def _containers(state: Path) -> list[str]:
    """Return the names under which runc knows our containers."""
    tasks = state / layout.RUN.name / "containerd" / "io.containerd.runtime.v2.task" / "k8s.io"
    return [folder.name for folder in tasks.glob("*")]


def _network(_state: Path) -> None:
    """Remove the bridges (with their addresses and routes) and the rules."""
    for bridge in traces.interfaces():
        run("ip", "link", "delete", bridge)
    for command in traces.TABLES:
        _rules(command)
    for counter in COUNTERS:
        succeeds("nfacct", "delete", counter)


def _rules(command: str) -> None:
    """Remove the rules and chains of kube-proxy, kubelet and the network plugins, a table at once."""
    if not traces.rules(command):
        return
    table = ""
    chains: dict[str, list[str]] = {}
    rules: dict[str, list[str]] = {}
    for line in run(f"{command}-save").splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif found := CHAIN.match(line):
            chains.setdefault(table, []).append(found[1])
        elif RULE.match(line) and ("KUBE-" in line or "CNI-" in line):
            rules.setdefault(table, []).append(f"-D{line[2:]}")
    for name, own in chains.items():
        lines = [f"*{name}", *rules.get(name, []), *(f"-F {chain}" for chain in own)]
        lines += [*(f"-X {chain}" for chain in own), "COMMIT", ""]
        run(f"{command}-restore", "--noflush", given="\n".join(lines))


def _host(state: Path) -> None:
    """Put back what the host had; remove folders that it did not have, if nobody else uses them by now."""
    for link in traces.logs(state):
        link.unlink()
    for note in traces.results():
        sandbox = note.name.removeprefix(f"{layout.POD_NETWORK}-").split("-")[0]
        (traces.CNI_RESULTS / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        note.unlink()
    for address in SHIMS.glob("*"):
        if not _listens(address):
            address.unlink(missing_ok=True)
    if not (noted := state / host.BEFORE.name).exists():
        return
    settings, folders = host.before(noted)
    for name, value in settings.items():
        host.put_back(name, value)
    for name in host.FOLDERS:
        path = Path(name)
        if name in folders or not path.exists():
            continue
        if name == host.KUBELET:
            # Ours since we came, or the port that a kubelet needs would have been taken.
            shutil.rmtree(path / "device-plugins", ignore_errors=True)
        if path.is_file():
            path.unlink()
        elif not any(files for _, _, files in os.walk(path)):
            shutil.rmtree(path)


def _listens(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(address))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass
    return True


STEPS: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("processes", _processes),
    ("mounts", _mounts),
    ("control groups", _cgroups),
    ("network", _network),
    ("settings", _host),
)
