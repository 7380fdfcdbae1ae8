"""What makes GPUs of nodes usable: NVIDIA's device plugin, feature discovery and exporter, or its operator.

They mount parts of their nodes, so they live in a namespace of their own that allows it, apart from the
estate."""

from typing import Any

import pulumi
import yaml
from pulumi import Input, Resource

from ..spec import GpuSettings, MigStrategy
from .helm import Release
from .objects import Manifest, checked_name, labels_of, make, meta

_KUBELET = "/var/lib/kubelet"
# Labels by which nodes with GPUs are known: of node feature discovery, of the GPU operator, and of GKE.
_GPU_NODES: tuple[Manifest, ...] = (
    {"key": "feature.node.kubernetes.io/pci-10de.present", "operator": "In", "values": ["true"]},
    {"key": "nvidia.com/gpu.present", "operator": "In", "values": ["true"]},
    {"key": "cloud.google.com/gke-accelerator", "operator": "Exists"},
)


def gpu_stack(name: str, host: Input[str], settings: GpuSettings, parent: Resource) -> None:
    """A namespace with a DaemonSet for each part, or with the operator, which makes them."""
    del host  # whose namespace allows no access to nodes
    checked_name("GpuStack", name, 40)
    manifest = namespace(f"{pulumi.get_project()}-{pulumi.get_stack().split('/')[-1]}-{name}")
    where = make(name, manifest, parent).known(manifest["metadata"]["name"])
    config = make(f"{name}-config", config_map(name, where, settings), parent)
    if settings.operator:
        Release(f"{name}-operator", operator(name, where, settings), parent, after=[config])
        return
    make(f"{name}-device-plugin", device_plugin(name, where, settings), parent)
    if settings.discovery is not False:
        make(f"{name}-discovery", discovery(name, where, settings), parent)
    if settings.exporter is not False:
        make(f"{name}-exporter", exporter(name, where, settings), parent)


def namespace(name: str) -> Manifest:
    """A namespace whose pods may use their nodes."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name[:63].strip("-"),
            "labels": {
                "app.kubernetes.io/managed-by": "pulumi",
                "pod-security.kubernetes.io/enforce": "privileged",
            },
        },
    }


def plugin_config(settings: GpuSettings) -> Manifest:
    """The device plugin's configuration file."""
    strategy = settings.mig_strategy or MigStrategy.NONE
    found: Manifest = {"version": "v1", "flags": {"migStrategy": strategy.value}}
    if settings.time_slices:
        shared = {"name": "nvidia.com/gpu", "replicas": settings.time_slices}
        # A pod that asks for two turns gets no more of a GPU than one that asks for one: that is refused.
        found["sharing"] = {"timeSlicing": {"failRequestsGreaterThanOne": True, "resources": [shared]}}
    return found


def config_map(name: str, where: Input[str], settings: GpuSettings) -> Manifest:
    """That file."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(f"{name}-config", where, labels_of("gpu", name)),
        "data": {"config.yaml": yaml.safe_dump(plugin_config(settings), sort_keys=True)},
    }


def device_plugin(name: str, where: Input[str], settings: GpuSettings) -> Manifest:
    """It tells the kubelet which GPUs there are, and gives them to containers."""
    strategy = settings.mig_strategy or MigStrategy.NONE
    context: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    if strategy is not MigStrategy.NONE:
        context = {"capabilities": {"add": ["SYS_ADMIN"]}}  # to see the slices of a GPU
    container = {
        "name": "device-plugin",
        "image": settings.plugin_image,
        "env": [{"name": "CONFIG_FILE", "value": "/config/config.yaml"}],
        "securityContext": context,
        "resources": _resources(64),
        "volumeMounts": [
            {"name": "config", "mountPath": "/config", "readOnly": True},
            {"name": "plugins", "mountPath": f"{_KUBELET}/device-plugins"},
        ],
    }
    volumes = [
        {"name": "config", "configMap": {"name": f"{name}-config"}},
        {"name": "plugins", "hostPath": {"path": f"{_KUBELET}/device-plugins"}},
    ]
    return _daemon_set(f"{name}-device-plugin", where, settings, container, volumes)


def discovery(name: str, where: Input[str], settings: GpuSettings) -> Manifest:
    """It writes a file about the GPUs, of which node feature discovery makes labels of the node."""
    features = "/etc/kubernetes/node-feature-discovery/features.d"
    container = {
        "name": "discovery",
        "image": settings.plugin_image,
        "command": ["gpu-feature-discovery"],
        "resources": _resources(64),
        "env": [
            {"name": "CONFIG_FILE", "value": "/config/config.yaml"},
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "securityContext": {"privileged": True},
        "volumeMounts": [
            {"name": "config", "mountPath": "/config", "readOnly": True},
            {"name": "features", "mountPath": features},
            {"name": "sys", "mountPath": "/sys", "readOnly": True},
        ],
    }
    volumes = [
        {"name": "config", "configMap": {"name": f"{name}-config"}},
        {"name": "features", "hostPath": {"path": features, "type": "DirectoryOrCreate"}},
        {"name": "sys", "hostPath": {"path": "/sys"}},
    ]
    return _daemon_set(f"{name}-discovery", where, settings, container, volumes)


def exporter(name: str, where: Input[str], settings: GpuSettings) -> Manifest:
    """Use, memory and temperature of each GPU, with the pod that has it."""
    container = {
        "name": "exporter",
        "image": settings.exporter_image,
        "resources": _resources(512),
        "readinessProbe": {"httpGet": {"path": "/health", "port": "metrics"}, "periodSeconds": 10},
        "env": [
            {"name": "DCGM_EXPORTER_LISTEN", "value": ":9400"},
            {"name": "DCGM_EXPORTER_KUBERNETES", "value": "true"},
        ],
        "ports": [{"name": "metrics", "containerPort": 9400}],
        "securityContext": {"runAsNonRoot": False, "runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}},
        "volumeMounts": [
            {"name": "resources", "mountPath": f"{_KUBELET}/pod-resources", "readOnly": True},
        ],
    }
    volumes = [{"name": "resources", "hostPath": {"path": f"{_KUBELET}/pod-resources"}}]
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "9400"}
    return _daemon_set(f"{name}-exporter", where, settings, container, volumes, annotations)


def _resources(mib: int) -> Manifest:
    return {"requests": {"cpu": "20m", "memory": f"{mib}Mi"}, "limits": {"memory": f"{mib * 2}Mi"}}


def operator(name: str, where: Input[str], settings: GpuSettings) -> Manifest:
    """The GPU operator's chart and its values; the device plugin is configured as without it."""
    strategy = settings.mig_strategy or MigStrategy.NONE
    values: Manifest = {
        "nfd": {"enabled": settings.discovery is not False},
        "gfd": {"enabled": settings.discovery is not False},
        "dcgmExporter": {"enabled": settings.exporter is not False},
        "mig": {"strategy": strategy.value},
        "devicePlugin": {"config": {"name": f"{name}-config", "default": "config.yaml"}},
    }
    if settings.mig_layout:
        values["migManager"] = {"enabled": True, "config": {"default": settings.mig_layout}}
    return {
        "name": f"{name}-operator",
        "namespace": where,
        "chart": "gpu-operator",
        "version": settings.operator_version,
        "repositoryOpts": {"repo": "https://helm.ngc.nvidia.com/nvidia"},
        "values": values,
    }


def _daemon_set(
    name: str,
    where: Input[str],
    settings: GpuSettings,
    container: dict[str, Any],
    volumes: list[Manifest],
    annotations: dict[str, str] | None = None,
) -> Manifest:
    labels = labels_of("gpu", name)
    if settings.node_labels:
        wanted = [
            {"key": key, "operator": "In", "values": [value]}
            for key, value in sorted(settings.node_labels.items())
        ]
        terms = [{"matchExpressions": wanted}]
    else:
        terms = [{"matchExpressions": [one]} for one in _GPU_NODES]
    required = {"nodeSelectorTerms": terms}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": meta(name, where, labels),
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": labels, **({"annotations": annotations} if annotations else {})},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "priorityClassName": "system-node-critical",
                    **({"runtimeClassName": settings.runtime_class} if settings.runtime_class else {}),
                    "affinity": {
                        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
                    },
                    "tolerations": [
                        {"key": "nvidia.com/gpu", "operator": "Exists"},
                        {"key": "CriticalAddonsOnly", "operator": "Exists"},
                    ],
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        },
    }
