"""A real Prometheus as the source of evidence: its labels, its staleness, its delay."""

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.rollout.conftest import Rollouts
from tests.engine.local.load import Load

_ANNOTATION = "__meta_kubernetes_pod_annotation_prometheus_io"


def _scrape(rollouts: Rollouts) -> dict[str, Any]:
    """As an installation does that goes by the pods' annotations."""
    discovery = {
        "role": "pod",
        "kubeconfig_file": rollouts.stack.env["KUBECONFIG"],
        "namespaces": {"names": [rollouts.stack.namespace, "envoy-gateway-system"]},
    }
    relabel = [
        {"source_labels": [f"{_ANNOTATION}_scrape"], "action": "keep", "regex": "true"},
        {
            "source_labels": [f"{_ANNOTATION}_path"],
            "target_label": "__metrics_path__",
            "regex": "(.+)",
        },
        {
            "source_labels": ["__meta_kubernetes_pod_ip", f"{_ANNOTATION}_port"],
            "separator": ":",
            "target_label": "__address__",
        },
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    job = {"job_name": "pods", "kubernetes_sd_configs": [discovery], "relabel_configs": relabel}
    return {"global": {"scrape_interval": "3s"}, "scrape_configs": [job]}


@pytest.fixture
def prometheus(rollouts: Rollouts, tmp_path: Path) -> Iterator[str]:
    """A Prometheus of this machine that scrapes the pods."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not on PATH; Debian has a package of that name")
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(_scrape(rollouts)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{probe.getsockname()[1]}"
    command = ["prometheus", f"--config.file={tmp_path / 'prometheus.yaml'}", f"--web.listen-address={at}"]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(
            [*command, f"--storage.tsdb.path={tmp_path / 'data'}"], stdout=log, stderr=log
        )
        deadline = time.monotonic() + 60
        query = f"http://{at}/api/v1/query?query=count(model_server_model_ready)%20%3E%3D%202"
        while True:
            try:
                with urllib.request.urlopen(query, timeout=5) as answer:
                    if b'"result":[{' in answer.read():
                        break
            except OSError:
                pass
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.2)
        yield f"http://{at}"
        running.terminate()
        running.wait(20)


def test_a_rollout_by_prometheus_counts_what_clients_saw(
    rollouts: Rollouts, prometheus: str, load: Load
) -> None:
    rollouts.configure("blue", "good", steps=[{"percent": 30}, {"percent": 100}])
    rollouts.stack.up()
    idle = "blue" if rollouts.weights() == {"good": 100} else "good"
    with load:
        rollouts.run("start", "--to", idle, "--prometheus", prometheus)
    load.report("by Prometheus")
    assert load.failures == []
    assert rollouts.weights() == {idle: 100}
    saw = sum(answer.variant == idle for answer in load.answers)
    records = rollouts.records()
    assert 0.4 * saw <= records[-1]["requests"] <= saw
    # No request that was divided as before was counted for the first step.
    first = next(record for record in records if record["event"] == "decided")
    counted = {check["name"]: check for check in first["evidence"]["checks"]}
    assert abs(counted["sample ratio"]["estimate"] - 30) < 10
