"""The node's processes and their settings: containerd, kubelet, kube-proxy, the pods' network."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.local.machine.supervisor import Program

from . import layout
from .certificates import certificate, key, kubeconfig
from .control_plane import program

PAUSE_IMAGE = "docker.io/serving-estate/pause:dev"


def programs(binaries: Mapping[str, Path]) -> list[Program]:
    """Write the settings; return the processes, in the order in which they need each other."""
    _write("containerd.toml", _containerd())
    _write("kubelet.yaml", yaml.safe_dump(_kubelet()))
    _write("kube-proxy.yaml", yaml.safe_dump(_kube_proxy()))
    network = layout.CNI / "net.d" / "10-serving-estate.conflist"
    network.parent.mkdir(parents=True, exist_ok=True)
    network.write_text(json.dumps(_network(), indent=1) + "\n")
    kubelet = {
        "config": layout.CONFIG / "kubelet.yaml",
        "kubeconfig": kubeconfig("kubelet"),
        "root-dir": layout.KUBELET,
        "hostname-override": layout.NODE,
        "node-ip": layout.NODE_IP,
    }
    return [
        program("containerd", Path("containerd"), {"config": layout.CONFIG / "containerd.toml"}),
        program("kubelet", binaries["kubelet"], kubelet),
        program("kube-proxy", binaries["kube-proxy"], {"config": layout.CONFIG / "kube-proxy.yaml"}),
    ]


def _write(name: str, text: str) -> None:
    (layout.CONFIG / name).write_text(text)


def _containerd() -> str:
    return f"""version = 2
root = "{layout.CONTAINERD}"
state = "{layout.RUN}/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{layout.CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "{layout.CONTAINERD}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# Hosts that are virtual machines or containers may not lower it.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter()}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{layout.CNI_PLUGINS}"
conf_dir = "{layout.CNI}/net.d"
"""


def snapshotter() -> str:
    """overlayfs, but for a checkout that lies on an overlay itself, as in a container: they do not stack."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [
        (point, kind)
        for _, point, kind, *_ in mounts
        if layout.STATE.is_relative_to(point.replace("\\040", " "))
    ]
    _, kind = max(holding, key=lambda each: len(each[0]))
    return "native" if kind in ("overlay", "fuse-overlayfs") else "overlayfs"


def _kubelet() -> dict[str, Any]:
    resolved = Path(
        "/run/systemd/resolve/resolv.conf"
    )  # the other one names a resolver that pods cannot reach
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.NODE_IP,
        "port": layout.KUBELET_PORT,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate("kubelet-server")),
        "tlsPrivateKeyFile": str(key("kubelet-server")),
        "containerRuntimeEndpoint": f"unix://{layout.CONTAINERD_SOCKET}",
        "podLogsDir": str(layout.LOGS / "pods"),
        "volumePluginDir": str(layout.KUBELET / "volume-plugins"),
        "clusterDNS": [layout.DNS_IP],
        "clusterDomain": layout.DOMAIN,
        "resolvConf": str(resolved if resolved.exists() else "/etc/resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "oomScoreAdj": 0,
        "maxPods": 200,
        # An image that is thrown away cannot be pulled again: there is no registry.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        "serializeImagePulls": False,
        "registerNode": True,
    }


def _kube_proxy() -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig("kube-proxy"))},
        "hostnameOverride": layout.NODE,
        "bindAddress": layout.NODE_IP,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The one mode in which NodePorts are reached on loopback.
        "mode": "iptables",
        "clusterCIDR": layout.POD_CIDR,
        "nodePortAddresses": ["127.0.0.0/8", f"{layout.NODE_IP}/32"],
        "oomScoreAdj": 0,
        # The host's connection tracking stays as it is.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _network() -> dict[str, Any]:
    return {
        "cniVersion": "0.4.0",
        "name": layout.POD_NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": layout.POD_BRIDGE,
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(layout.CNI / "addresses"),
                    "ranges": [[{"subnet": layout.POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
            # A host whose own rules drop forwarded packets, as docker's do, lets the pods' through.
            {"type": "firewall", "backend": "iptables"},
        ],
    }
