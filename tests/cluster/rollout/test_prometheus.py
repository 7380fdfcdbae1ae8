"""A real Prometheus as the source of evidence: its labels, its staleness, its delay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.rollout.conftest import Rollouts
from tests.engine.local.load import Load
from tests.engine.rollout.prometheus import needs_prometheus, prometheus

pytestmark = [pytest.mark.long, needs_prometheus]


def _jobs(rollouts: Rollouts) -> list[dict[str, Any]]:
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
    return jobs


@pytest.fixture
def scraping(rollouts: Rollouts, tmp_path: Path) -> Iterator[str]:
    """A Prometheus of this machine that scrapes the pods."""
    ready = "count(model_server_model_ready) >= 2"
    with prometheus(_jobs(rollouts), tmp_path, ready, scraped_s=3) as url:
        yield url


def test_a_rollout_by_prometheus_counts_what_clients_saw(
    rollouts: Rollouts, scraping: str, load: Load
) -> None:
    rollouts.configure("blue", "good", steps=[{"percent": 30}, {"percent": 100}])
    rollouts.stack.up()
    idle = rollouts.idle()
    with load:
        rollouts.run("start", "--to", idle, "--prometheus", scraping)
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
