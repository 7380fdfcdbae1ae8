"""A driver in the cluster: what runs, and what it may do."""

from typing import Any

import pytest

from components import RolloutJob
from components.arguments import ArgumentsError
from tests.unit.kubernetes.conftest import Objects, run

ARGS: dict[str, Any] = {
    "endpoint": "digits",
    "stack": "acme/prod",
    "image": "ghcr.io/example/estate@sha256:0f3d",
    "host": "serving-prod",
    "backend": "s3://state",
    "secret": "rollout",
}


def made(**more: Any) -> Objects:
    return run(lambda: RolloutJob("digits-driver", {**ARGS, **more})).objects  # type: ignore[typeddict-item]


def test_a_schedule_makes_a_cron_job_that_never_runs_twice_at_a_time() -> None:
    spec = made(schedule="*/10 * * * *")["CronJob", "digits-driver"]["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("*/10 * * * *", "Forbid")
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    words = "estate rollout run digits --stack acme/prod --cwd /estate"
    assert container["command"] == words.split()
    assert {"name": "PULUMI_BACKEND_URL", "value": "s3://state"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "rollout"}}]


def test_what_was_rolled_back_is_not_tried_again_and_a_killed_driver_is() -> None:
    spec = made()["Job", "digits-driver"]["spec"]
    rules = {rule["action"]: rule for rule in reversed(spec["podFailurePolicy"]["rules"])}
    assert rules["FailJob"]["onExitCodes"] == {"operator": "In", "values": [3]}
    assert spec["backoffLimit"] > 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "a failure policy knows no other"


def test_its_rights_end_with_its_work() -> None:
    objects = made()
    roles = {key: objects["Role", key]["rules"] for kind, key in objects if kind == "Role"}
    rights = {
        (resource, verb): rule.get("resourceNames")
        for rule in roles["digits-driver"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert rights["httproutes", "patch"] == rights["grpcroutes", "patch"] == ["digits"]
    assert rights["leases", "update"] == ["digits-rollout"]
    assert not {verb for _, verb in rights} & {"*", "delete"}
    assert "secrets" not in {resource for resource, _ in rights}
    proxies = objects["Role", "digits-driver-proxies"]
    assert proxies["metadata"]["namespace"] == "envoy-gateway-system"
    assert {verb for rule in proxies["rules"] for verb in rule["verbs"]} == {"get", "list"}
    (subject,) = objects["RoleBinding", "digits-driver-proxies"]["subjects"]
    assert (subject["name"], subject["namespace"]) == ("digits-driver", "serving-prod")
    assert "ClusterRole" not in {kind for kind, _ in objects}


def test_a_folder_as_the_backend_is_a_claim() -> None:
    pod = made(backend=None, claim="state")["Job", "digits-driver"]["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "backend", "persistentVolumeClaim": {"claimName": "state"}}]
    assert {"name": "PULUMI_BACKEND_URL", "value": "file:///backend"} in pod["containers"][0]["env"]


def test_a_schedule_that_is_none_is_refused() -> None:
    with pytest.raises(ArgumentsError, match=r"schedule: must be five fields.*'hourly'"):
        made(schedule="hourly")
