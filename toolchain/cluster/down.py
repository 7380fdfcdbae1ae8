"""Removing the cluster, whatever state it is in: nothing of it is left but what is in the cache."""

import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from components.local.provider.supervisor import Supervisor
from toolchain.cache import Progress, ToolError, say

from . import host, layout
from .api import wait
from .commands import run, succeeds, with_system_path

CGROUPS = Path("/sys/fs/cgroup")
RUNC = Path("/run/containerd/runc/k8s.io")
CNI_RESULTS = Path("/var/lib/cni/results")
COUNTERS = ("ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts")
CHAIN = re.compile(r"^:((?:KUBE|CNI)-\S+)")
RULE = re.compile(r"-A (?!KUBE-|CNI-)")
KUBERNETES = re.compile(r"(?:KUBE|CNI)-|kubernetes|serving-estate")


def down() -> None:
    """Remove every trace; where there is none, do nothing.

    Raises:
        ToolError: something cannot be removed; the message names it.
    """
    with_system_path()
    if not layout.STATE.exists():
        say("there is no cluster of this checkout")
        return
    if os.geteuid():
        raise ToolError("the cluster is root's: run it again with sudo")
    ours = host.owner() in (None, layout.STATE)
    with Progress("removing the cluster") as progress:
        if ours and host.BEFORE.exists():
            for title, step in STEPS:
                progress.phase = title
                step()
        progress.phase = "files"
        shutil.rmtree(layout.STATE)
        if ours:
            layout.OWNER.unlink(missing_ok=True)


def _processes() -> None:
    """Stop the parts, then end the containers, which outlive them so that a restart finds them again."""
    Supervisor(layout.STATE).stop()
    _end(process for process in psutil.process_iter() if _is_shim(process))
    for group in _cgroups():
        for pid in _pids(group):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    wait(
        "processes of pods do not end",
        lambda: not any(_pids(group) for group in _cgroups()),
        30,
        lambda: f"see {', '.join(str(group) for group in _cgroups())}",
    )


def _is_shim(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.name().startswith("containerd-shim") and str(layout.RUN) in " ".join(process.cmdline())
    return False


def _end(processes: Iterable[psutil.Process]) -> None:
    ended = []
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
            ended.append(process)
    psutil.wait_procs(ended, timeout=10)


def _cgroups() -> list[Path]:
    """The kubelet's folders in every hierarchy, and all below them; the deepest first."""
    roots = [*CGROUPS.glob("kubepods"), *CGROUPS.glob("*/kubepods")]
    return [folder for root in roots for folder in (*sorted(_below(root), reverse=True), root)]


def _below(folder: Path) -> list[Path]:
    return [Path(path) for path, _, _ in os.walk(folder) if path != str(folder)]


def _pids(group: Path) -> list[int]:
    with suppress(OSError):
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    return []


def _remove_cgroups() -> None:
    """Folders of processes that just ended are let go of a moment later."""

    def gone() -> bool:
        for group in _cgroups():
            with suppress(OSError):
                group.rmdir()
        return not _cgroups()

    wait("control groups cannot be removed", gone, 20, lambda: ", ".join(map(str, _cgroups()[:3])))


def _mounts() -> None:
    """Unmount what lies in the state folder, and let the pods' network namespaces go."""
    for point in reversed(_mounted()):
        run("umount", "--lazy", point)
    if left := _mounted():  # the folder is about to be deleted, and what is mounted in it would be too
        raise ToolError(
            f"{left[0]} cannot be unmounted: see `findmnt {left[0]}`, unmount it, and run this again"
        )
    for namespace in _namespaces():
        succeeds("umount", "--lazy", namespace)
        namespace.unlink(missing_ok=True)
    for sandbox in _sandboxes():
        shutil.rmtree(RUNC / sandbox, ignore_errors=True)


def _mounted() -> list[str]:
    """Return what is mounted in the state folder, in the order in which it was."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    return [point for point in points if Path(point).is_relative_to(layout.STATE)]


def _results() -> list[Path]:
    """Return what the network plugins noted of each pod of ours."""
    return list(CNI_RESULTS.glob(f"{layout.POD_NETWORK}-*"))


def _namespaces() -> list[Path]:
    """Return the network namespaces of our pods, of which another runtime on this host may have some, too."""
    found = []
    for note in _results():
        with suppress(ValueError, KeyError):
            found.append(Path(json.loads(note.read_text())["netns"]))
    return [path for path in found if path.exists()]


def _sandboxes() -> list[str]:
    """Return the names under which runc knows our containers."""
    return [
        folder.name for folder in (layout.RUN / "containerd").glob("io.containerd.runtime.v2.task/k8s.io/*")
    ]


def _network() -> None:
    """Remove the bridges (the pods' ends went with their namespaces), routes, and rules."""
    for bridge in (layout.POD_BRIDGE, layout.BRIDGE):
        if succeeds("ip", "link", "show", bridge):
            run("ip", "link", "delete", bridge)
    for command in ("iptables", "ip6tables"):
        _rules(command)
    for counter in COUNTERS:
        succeeds("nfacct", "delete", counter)


def _rules(command: str) -> None:
    """Remove the rules and chains of kube-proxy, kubelet and the network plugins, a table at once."""
    if not shutil.which(f"{command}-save"):
        return
    table, wanted = "", dict[str, list[str]]()
    chains: dict[str, list[str]] = {}
    for line in run(f"{command}-save").splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif found := CHAIN.match(line):
            chains.setdefault(table, []).append(found[1])
        elif RULE.match(line) and KUBERNETES.search(line):
            wanted.setdefault(table, []).append(f"-D{line[2:]}")
    for name in {*chains, *wanted}:
        own = chains.get(name, [])
        lines = [f"*{name}", *wanted.get(name, []), *(f"-F {chain}" for chain in own)]
        lines += [*(f"-X {chain}" for chain in own), "COMMIT", ""]
        run(f"{command}-restore", "--noflush", given="\n".join(lines))


def _settings_and_folders() -> None:
    """Put back what the host had; remove folders that it did not have, if nobody else uses them by now."""
    settings, folders = host.before()
    for name, value in settings.items():
        host.put_back(name, value)
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(layout.STATE):
            link.unlink()
    for note in _results():
        sandbox = note.name.removeprefix(f"{layout.POD_NETWORK}-").split("-")[0]
        (CNI_RESULTS / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        note.unlink()
    for address in Path("/run/containerd/s").glob("*"):
        if not _listens(address):
            address.unlink(missing_ok=True)
    for name in host.FOLDERS:
        path = Path(name)
        if name in folders or not path.exists():
            continue
        if path.is_file():
            path.unlink()
        elif not any(Path(root) / file for root, _, files in os.walk(path) for file in files):
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
    ("control groups", _remove_cgroups),
    ("network", _network),
    ("settings", _settings_and_folders),
)
