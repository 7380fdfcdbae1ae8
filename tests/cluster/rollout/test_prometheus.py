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

pytestmark = pytest.mark.long


def _scrape(rollouts: Rollouts) -> dict[str, Any]:
    """The pods as they are, by their addresses: Debian's build cannot ask a cluster for them."""
    stack = rollouts.stack
    owner = "gateway.envoyproxy.io/owning-gateway"
    servers = stack.kubectl("get", "pods", "--selector", "app.kubernetes.io/name=model-server")["items"]
    found = stack.kubectl(
        *("get", "pods", "--namespace", "envoy-gateway-system"),
        *("--selector", f"{owner}-name=gateway,{owner}-namespace={stack.namespace}"),
    )
    jobs = []
    for name, pods, port, path in (
        ("servers", servers, 8080, "/metrics"),
        ("proxies", found["items"], 19001, "/stats/prometheus"),
    ):
        targets = [
            {
                "targets": [f"{pod['status']['podIP']}:{port}"],
                "labels": {"pod": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]},
            }
            for pod in pods
        ]
        jobs.append({"job_name": name, "metrics_path": path, "static_configs": targets})
    return {"global": {"scrape_interval": "3s"}, "scrape_configs": jobs}


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
    idle = rollouts.idle()
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
