"""Where everything of the cluster lies, and the addresses it uses: one cluster to a host.

Its address is on a bridge of its own, which is connected to nothing: what listens there (API server, kubelet,
NodePorts) is reached from this host and from pods, and from nowhere else.
"""

from pathlib import Path

from toolchain.lock import ROOT

NODE = "node-1"
BRIDGE = "estate-node"
NODE_IP = "10.243.0.1"
POD_BRIDGE = "estate-pods"
POD_CIDR = "10.244.0.0/16"
POD_NETWORK = "serving-estate"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
DOMAIN = "cluster.local"
API_PORT = 6443
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
KUBELET_PORT = 10250
KWOK_PORT = 10247
SERVER = f"https://{NODE_IP}:{API_PORT}"

HERE = Path(__file__).resolve().parent
STATE = ROOT / ".cluster"
KUBECONFIG = STATE / "kubeconfig"
PKI = STATE / "pki"
CONFIG = STATE / "config"
LOGS = STATE / "logs"
RUN = STATE / "run"
ETCD = STATE / "etcd"
CONTAINERD = STATE / "containerd"
CONTAINERD_SOCKET = RUN / "containerd.sock"
KUBELET = STATE / "kubelet"
VOLUMES = STATE / "volumes"
CNI = STATE / "cni"
CNI_PLUGINS = Path("/usr/lib/cni")

OWNER = Path("/run/serving-estate-cluster")
"""Names the checkout whose cluster runs on this host."""

LONGEST_STATE = 60
"""A Unix socket's path may have 107 characters, and the longest below the state folder takes some 45."""
