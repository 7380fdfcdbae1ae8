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
    if not layout.STATE.exists() and (others or not traces.left()):
        say("there is no cluster of this checkout")
        return
    with Progress("removing the cluster") as progress:
        for title, step in [] if others else STEPS:
            progress.phase = title
            step()
        progress.phase = "files"
        shutil.rmtree(layout.STATE, ignore_errors=not layout.STATE.exists())
        if others:
            return
        if left := traces.left():
            raise ToolError(f"{len(left)} traces are left, the first: {'; '.join(left[:5])}")
        layout.OWNER.unlink(missing_ok=True)


def _processes() -> None:
    """Stop the parts, then end the containers, which outlive them so that a restart finds them again."""
    Supervisor(layout.STATE).stop()

    def gone() -> bool:
        """Also where a killed run left them; a shim that sees its container end may start another command."""
        shims = list(traces.processes())
        pids = [pid for group in traces.cgroups() for pid in _pids(group)]
        for process in shims:
            with suppress(psutil.Error):
                process.kill()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not shims and not pids

    wait("processes of the cluster do not end", gone, 60, lambda: "; ".join(traces.left()[:3]))


def _pids(group: Path) -> list[int]:
    with suppress(OSError):
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    return []


def _cgroups() -> None:
    """Remove the folders; that of a process which just ended is let go of a moment later."""

    def gone() -> bool:
        for group in traces.cgroups():
            with suppress(OSError):
                group.rmdir()
        return not traces.cgroups()

    wait("control groups cannot be removed", gone, 20, lambda: ", ".join(map(str, traces.cgroups()[:3])))


def _mounts() -> None:
    """Unmount what lies in the state folder, and let the pods' network namespaces go."""
    sandboxes = _containers()
    for point in reversed(traces.mounts()):
        run("umount", "--lazy", point)
    if left := traces.mounts():  # the folder is about to be deleted, and what is mounted in it would be too
        raise ToolError(
            f"{left[0]} cannot be unmounted: see `findmnt {left[0]}`, unmount it, and run this again"
        )
    for namespace in traces.namespaces():
        succeeds("umount", "--lazy", namespace)
        namespace.unlink(missing_ok=True)
    for sandbox in sandboxes:
        shutil.rmtree(RUNC / sandbox, ignore_errors=True)


def _containers() -> list[str]:
    """Return the names under which runc knows our containers."""
    tasks = layout.RUN / "containerd" / "io.containerd.runtime.v2.task" / "k8s.io"
    return [folder.name for folder in tasks.glob("*")]


def _network() -> None:
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


def _host() -> None:
    """Put back what the host had; remove folders that it did not have, if nobody else uses them by now."""
    for link in traces.logs():
        link.unlink()
    for note in traces.results():
        sandbox = note.name.removeprefix(f"{layout.POD_NETWORK}-").split("-")[0]
        (traces.CNI_RESULTS / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        note.unlink()
    for address in SHIMS.glob("*"):
        if not _listens(address):
            address.unlink(missing_ok=True)
    if not host.BEFORE.exists():
        return
    settings, folders = host.before()
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


STEPS: tuple[tuple[str, Callable[[], None]], ...] = (
    ("processes", _processes),
    ("mounts", _mounts),
    ("control groups", _cgroups),
    ("network", _network),
    ("settings", _host),
)
