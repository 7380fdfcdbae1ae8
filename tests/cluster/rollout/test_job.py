"""A driver in the cluster: its objects are valid, and its rights are enough and no more."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import RolloutJob
from tests.cluster.estate.tiny import ENDPOINT
from tests.cluster.rollout.conftest import Rollouts
from tests.engine.local.load import Load
from tests.unit.kubernetes.conftest import run
from toolchain.cluster.api import Kubectl

NAME = "driver"


def objects(namespace: str, **more: Any) -> list[dict[str, Any]]:
    args = {"endpoint": ENDPOINT, "stack": "test", "image": "estate:dev", "host": namespace, **more}
    made = run(lambda: RolloutJob(NAME, args))  # type: ignore[arg-type]
    return [*made.objects.values()]


def apply(rollouts: Rollouts, manifests: list[dict[str, Any]]) -> None:
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    command = ["kubectl", "apply", "--server-side", "--filename", "-"]
    subprocess.run(command, env=rollouts.stack.env, input=document, text=True, check=True)


def as_account(rollouts: Rollouts, file: Path) -> dict[str, str]:
    """The environment of a process that is the job's account to the cluster, and nobody else."""
    namespace, env = rollouts.stack.namespace, rollouts.stack.env
    command = ["kubectl", "create", "token", NAME, "--namespace", namespace]
    token = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()
    config = yaml.safe_load(Path(env["KUBECONFIG"]).read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    file.write_text(yaml.safe_dump(config))
    file.chmod(0o600)
    return {**env, "KUBECONFIG": str(file)}


def test_the_api_server_takes_job_and_cron_job(kubectl: Kubectl, namespace: str) -> None:
    for more in ({}, {"schedule": "*/10 * * * *", "claim": "state", "secret": "rollout"}):
        document = {"apiVersion": "v1", "kind": "List", "items": objects(namespace, **more)}
        kubectl("apply", "--server-side", "--dry-run=server", "--filename=-", given=json.dumps(document))


@pytest.mark.long
def test_its_rights_are_enough_for_a_rollout_and_do_not_reach_further(
    rollouts: Rollouts, load: Load, tmp_path: Path
) -> None:
    granted = [one for one in objects(rollouts.stack.namespace) if one["kind"] != "Job"]
    apply(rollouts, granted)
    env = as_account(rollouts, tmp_path / "kubeconfig")
    rollouts.configure("blue", "good", steps=[{"percent": 30}, {"percent": 100}])
    rollouts.stack.up()  # what else has changed is not in the job's rights
    idle = rollouts.idle()
    with load:
        rollouts.run("run", "--to", idle, env=env)
    assert load.failures == []
    assert rollouts.weights() == {idle: 100}
    assert "no version that was not tried" in rollouts.run("run", env=env)
    secrets = ["kubectl", "get", "secrets", "--namespace", rollouts.stack.namespace]
    refused = subprocess.run(secrets, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert "forbidden" in refused.stderr
