"""The control plane's processes: etcd, API server, controller manager, scheduler."""

from collections.abc import Mapping
from pathlib import Path

from components.local.machine.supervisor import Program

from . import layout
from .certificates import certificate, key, kubeconfig


def programs(binaries: Mapping[str, Path]) -> list[Program]:
    """Return the processes, in the order in which they need each other."""
    return [
        program("etcd", binaries["etcd"], _etcd()),
        program("kube-apiserver", binaries["kube-apiserver"], _apiserver()),
        program("kube-controller-manager", binaries["kube-controller-manager"], _controller_manager()),
        program("kube-scheduler", binaries["kube-scheduler"], _scheduler()),
    ]


def program(
    name: str, binary: Path, flags: Mapping[str, object], *words: str, stop_seconds: float = 10
) -> Program:
    """A supervised process of the cluster; its log is `.cluster/logs/NAME.log`."""
    return Program(
        name=name,
        # The supervisor's own mask would make folders of pods and images that only root can enter.
        command=[
            "/bin/sh",
            "-c",
            'umask 022 && exec "$0" "$@"',
            str(binary),
            *words,
            *(f"--{flag}={_text(value)}" for flag, value in flags.items()),
        ],
        env={},
        directory=layout.STATE,
        log=layout.LOGS / f"{name}.log",
        stop_seconds=stop_seconds,
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _etcd() -> dict[str, object]:
    client, peer = f"https://127.0.0.1:{layout.ETCD_PORT}", f"https://127.0.0.1:{layout.ETCD_PEER_PORT}"
    return {
        "name": layout.NODE,
        "data-dir": layout.ETCD,
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"{layout.NODE}={peer}",
        "client-cert-auth": True,
        "trusted-ca-file": certificate("etcd-ca"),
        "cert-file": certificate("etcd"),
        "key-file": key("etcd"),
        "peer-client-cert-auth": True,
        "peer-trusted-ca-file": certificate("etcd-ca"),
        "peer-cert-file": certificate("etcd"),
        "peer-key-file": key("etcd"),
        # A cluster for tests may lose its last seconds with the machine's power; it gains a lot of speed.
        "unsafe-no-fsync": True,
        "log-level": "warn",
    }


def _apiserver() -> dict[str, object]:
    return {
        "bind-address": layout.NODE_IP,
        "advertise-address": layout.NODE_IP,
        "secure-port": layout.API_PORT,
        "service-cluster-ip-range": layout.SERVICE_CIDR,
        "etcd-servers": f"https://127.0.0.1:{layout.ETCD_PORT}",
        "etcd-cafile": certificate("etcd-ca"),
        "etcd-certfile": certificate("apiserver-etcd"),
        "etcd-keyfile": key("apiserver-etcd"),
        "tls-cert-file": certificate("apiserver"),
        "tls-private-key-file": key("apiserver"),
        "client-ca-file": certificate("ca"),
        "service-account-issuer": f"https://kubernetes.default.svc.{layout.DOMAIN}",
        "service-account-key-file": layout.PKI / "service-accounts.pub",
        "service-account-signing-key-file": key("service-accounts"),
        "kubelet-certificate-authority": certificate("ca"),
        "kubelet-client-certificate": certificate("apiserver-kubelet"),
        "kubelet-client-key": key("apiserver-kubelet"),
        # The node's name need not resolve.
        "kubelet-preferred-address-types": "InternalIP",
        # For metrics-server, which serves a part of the API.
        "requestheader-client-ca-file": certificate("front-proxy-ca"),
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "proxy-client-cert-file": certificate("front-proxy"),
        "proxy-client-key-file": key("front-proxy"),
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": True,
        "profiling": False,
    }


def _controller_manager() -> dict[str, object]:
    return {
        "kubeconfig": kubeconfig("controller-manager"),
        "bind-address": "127.0.0.1",
        "leader-elect": False,
        "use-service-account-credentials": True,
        "service-account-private-key-file": key("service-accounts"),
        "root-ca-file": certificate("ca"),
        "cluster-signing-cert-file": certificate("ca"),
        "cluster-signing-key-file": key("ca"),
        # Pods get their addresses from the node's own range, so fake nodes need none.
        "allocate-node-cidrs": False,
        # Autoscaling is looked at more often than by default, for tests to see it sooner.
        "horizontal-pod-autoscaler-sync-period": "5s",
        "profiling": False,
    }


def _scheduler() -> dict[str, object]:
    return {
        "kubeconfig": kubeconfig("scheduler"),
        "bind-address": "127.0.0.1",
        "leader-elect": False,
        "profiling": False,
    }
