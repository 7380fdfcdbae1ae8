"""What a cluster leaves on a host: looked for after it was removed, so that nobody has to trust in it."""

import ipaddress
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from toolchain.cache import ToolError

from . import layout
from .commands import run, succeeds

CGROUPS = Path("/sys/fs/cgroup")
CNI_RESULTS = Path("/var/lib/cni/results")
PARTS = ("etcd", "kube-", "kubelet", "containerd", "kwok", "supervisord")
TABLES = ("iptables", "ip6tables")


def left(state: Path) -> list[str]:
    """Name all that is there of the cluster in this state folder, in words that say where to look."""
    return [
        *(f"process {process.pid} ({process.name()})" for process in processes(state)),
        *(f"mount {point}" for point in mounts(state)),
        *(f"network namespace {path}" for path in namespaces()),
        *(f"interface {name}" for name in interfaces()),
        *(f"control group {group}" for group in cgroups()),
        *(f"{command}: {line}" for command in TABLES for line in rules(command)),
        *(f"file {path}" for path in (*results(), *logs(state))),
    ]


def processes(state: Path) -> Iterator[psutil.Process]:
    """The cluster's parts and the containers' keepers: they name its folder. Containers are in `cgroups`."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            # Not whoever only looks at a log, or asks the cluster with its kubeconfig.
            if process.name().startswith(PARTS) and str(state) in " ".join(process.cmdline()):
                yield process


def mounts(state: Path) -> list[str]:
    """What is mounted in the state folder, in the order in which it was."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    return [point for point in points if Path(point).is_relative_to(state)]


def results() -> list[Path]:
    """What the network plugins noted of each pod."""
    return list(CNI_RESULTS.glob(f"{layout.POD_NETWORK}-*"))


def namespaces() -> list[Path]:
    """The network namespaces of our pods, told by their addresses: another runtime may have some, too."""
    network = ipaddress.ip_network(layout.POD_CIDR)
    found = []
    for path in Path("/run/netns").glob("cni-*"):
        with suppress(ToolError):  # it went in this moment
            told = json.loads(run("ip", "--json", "-4", "-netns", path.name, "address"))
            addresses = [each["local"] for link in told for each in link.get("addr_info", [])]
            if any(ipaddress.ip_address(address) in network for address in addresses):
                found.append(path)
    return found


def interfaces() -> list[str]:
    """The cluster's bridges; what hangs on them goes with the namespaces at its other end."""
    return [name for name in (layout.POD_BRIDGE, layout.BRIDGE) if succeeds("ip", "link", "show", name)]


def cgroups() -> list[Path]:
    """The kubelet's folders in every hierarchy and all below them, the deepest first."""
    roots = [*CGROUPS.glob("kubepods"), *CGROUPS.glob("*/kubepods")]
    below = [[Path(path) for path, _, _ in os.walk(root, topdown=False)] for root in roots]
    return [folder for folders in below for folder in folders]


def rules(command: str) -> list[str]:
    """Lines of `iptables-save` that are the cluster's: of kube-proxy, the kubelet and the plugins."""
    if not shutil.which(f"{command}-save"):
        return []
    return [line for line in run(f"{command}-save").splitlines() if "KUBE-" in line or "CNI-" in line]


def logs(state: Path) -> list[Path]:
    """The links to containers' logs that the kubelet makes in a folder of the host."""
    links = [path for path in Path("/var/log/containers").glob("*.log") if path.is_symlink()]
    return [link for link in links if link.readlink().is_relative_to(state)]
