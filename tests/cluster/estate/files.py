"""A server of model files in the cluster, for estates that need no registry."""

import base64
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

PORT = 8080


def serve(kubeconfig: Path, namespace: str, contents: Mapping[str, bytes]) -> str:
    """Start it; the address below which the files lie. They have to be small: together 1 MiB at most."""
    files = {name: base64.b64encode(content).decode() for name, content in contents.items()}
    labels = {"app": "files"}
    container = {
        "name": "files",
        "image": "docker.io/serving-estate/busybox:dev",
        "command": ["busybox", "httpd", "-f", "-p", str(PORT), "-h", "/files"],
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "files", "configMap": {"name": "files"}}],
        "terminationGracePeriodSeconds": 0,
    }
    name = {"name": "files", "namespace": namespace, "labels": labels}
    objects = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "binaryData": files},
        {"apiVersion": "v1", "kind": "Pod", "metadata": name, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": name,
            "spec": {"selector": labels, "ports": [{"port": PORT}]},
        },
    ]
    kubectl = ["kubectl", f"--kubeconfig={kubeconfig}"]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    subprocess.run([*kubectl, "apply", "-f", "-"], input=manifest, text=True, check=True, capture_output=True)
    wait = ["wait", "pod/files", f"--namespace={namespace}", "--for=condition=Ready", "--timeout=60s"]
    subprocess.run([*kubectl, *wait], check=True, capture_output=True)
    return f"http://files.{namespace}.svc:{PORT}"
