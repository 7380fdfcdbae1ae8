"""What the host must have, and what of it the cluster changes: noted before, put back afterwards."""

import json
import os
import platform
import shutil
import socket
from pathlib import Path

from toolchain.cache import ToolError, say

from . import layout
from .commands import run, succeeds

# Program by the Debian package that brings it.
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "nfacct": "nfacct",
    "ip": "iproute2",
    "mount": "mount",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    str(layout.CNI_PLUGINS / "bridge"): "containernetworking-plugins",
    "/bin/busybox": "busybox-static",
}
# Packets between pods on one bridge must pass the rules that give Services their addresses.
SETTINGS = {"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1"}
# kube-proxy sets this one, and nobody puts it back.
ALSO_CHANGED = ("net.ipv4.conf.all.route_localnet",)
KUBELET = "/var/lib/kubelet"
# Made by containerd, kubelet and the network plugins, whatever their own folders are.
FOLDERS = (
    "/opt/containerd",
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    KUBELET,
    "/var/log/containers",
    "/var/log/pods",
    "/usr/libexec/kubernetes",
    "/etc/cni",
    "/run/xtables.lock",
)
# The parts' own, and those on which they tell how they are.
PORTS = (
    layout.API_PORT,
    layout.ETCD_PORT,
    layout.ETCD_PEER_PORT,
    layout.KUBELET_PORT,
    layout.KWOK_PORT,
    10248,
    10249,
    10256,
    10257,
    10259,
)
BEFORE = layout.STATE / "before.json"


def check() -> None:
    """Refuse a host on which it cannot work, with what to do about it."""
    if platform.system() != "Linux":
        raise ToolError("a node needs Linux: set KUBECONFIG to a cluster that runs elsewhere (kind, k3d)")
    if os.geteuid():
        raise ToolError(
            "a node needs root: run it again with sudo, or set KUBECONFIG to a cluster that you have"
        )
    if len(str(layout.STATE)) > layout.LONGEST_STATE:
        raise ToolError(
            f"{layout.STATE} has more than {layout.LONGEST_STATE} characters, too many for the sockets in "
            "it: move the checkout to a shorter path"
        )
    missing = sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})
    if missing:
        install(missing)


def install(packages: list[str]) -> None:
    """Install Debian packages, where this is a Debian."""
    line = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise ToolError(
            f"missing on this host: {', '.join(packages)} (by their names in Debian); install them"
        )
    say(f"installing {', '.join(packages)}")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    try:
        run("apt-get", "update", "-qq", seconds=300)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, seconds=600)
    except ToolError as error:
        raise ToolError(f"{error}\ncheck the network and apt's sources, or run yourself: {line}") from error


def owner() -> Path | None:
    """Return the state folder of the cluster that was made on this host, if there is one."""
    try:
        return Path(layout.OWNER.read_text().strip())
    except FileNotFoundError:
        return None


def check_free() -> None:
    """See that nobody else sits on the ports and addresses that the node will use, or does already."""
    if owner():
        return
    ports = [
        layout.API_PORT,
        layout.ETCD_PORT,
        layout.ETCD_PEER_PORT,
        layout.KUBELET_PORT,
        10249,
        10256,
        10257,
    ]
    for port in [*ports, 10259]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104  only to see whether it is free
            except OSError as error:
                raise ToolError(
                    f"port {port} of this host is taken ({error.strerror}): another Kubernetes? Set "
                    f"KUBECONFIG to use that one, or end what listens there: `ss -ltnp sport = :{port}`"
                ) from error
    routes = run("ip", "-4", "route", "show", "table", "all")
    for network in ("10.243.", "10.244.", "10.96."):
        if f" {network}" in f" {routes}" and layout.BRIDGE not in routes:
            raise ToolError(
                f"this host has a route to {network}x.x already, which the cluster would use: "
                "set KUBECONFIG to another cluster, or remove the route"
            )


def prepare() -> None:
    """Note what will be changed, and change it."""
    layout.STATE.mkdir(exist_ok=True)
    layout.STATE.chmod(0o711)  # pods that are not root reach their volumes through it
    if not BEFORE.exists():
        half = BEFORE.with_suffix(".half")
        half.write_text(json.dumps(_state(), indent=1) + "\n")
        half.replace(BEFORE)
    layout.OWNER.write_text(f"{layout.STATE}\n")
    for folder in (layout.CONFIG, layout.LOGS, layout.RUN, layout.KUBELET, layout.VOLUMES, layout.CNI):
        folder.mkdir(exist_ok=True)
    for name, value in SETTINGS.items():
        if (file := _setting(name)).exists():
            file.write_text(value)
    if not succeeds("ip", "link", "show", layout.BRIDGE):
        run("ip", "link", "add", layout.BRIDGE, "type", "bridge")
    run("ip", "address", "replace", f"{layout.NODE_IP}/32", "dev", layout.BRIDGE)
    run("ip", "link", "set", layout.BRIDGE, "up")
    # A host without a default route has none to Services either; the rules need one to look at the packet.
    run("ip", "route", "replace", layout.SERVICE_CIDR, "dev", layout.BRIDGE)


def _state() -> dict[str, object]:
    settings = [*SETTINGS, *ALSO_CHANGED]
    return {
        "settings": {n: _setting(n).read_text().strip() for n in settings if _setting(n).exists()},
        "folders": [folder for folder in FOLDERS if Path(folder).exists()],
    }


def _setting(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def before(file: Path) -> tuple[dict[str, str], list[str]]:
    """Return the settings and those of `FOLDERS` that the host had before the cluster."""
    noted = json.loads(file.read_text())
    return noted["settings"], noted["folders"]


def put_back(name: str, value: str) -> None:
    """Give a setting the value that it had."""
    if (file := _setting(name)).exists():
        file.write_text(value)
