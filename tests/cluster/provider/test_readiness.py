from typing import Any

import pytest

from tests.cluster.provider.diagnosis import of_begun, of_events, of_object, of_pod, of_restarted
from tests.cluster.provider.errors import ProviderError
from tests.cluster.provider.readiness import Failed, Waiting, endpoints, readiness


def _live(
    api_version: str, kind: str, spec: Any = None, status: Any = None, **metadata: Any
) -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"generation": 2, **metadata},
        "spec": spec or {},
        "status": {"observedGeneration": 2, **(status or {})},
    }


def deployment(**status: Any) -> dict[str, Any]:
    return _live("apps/v1", "Deployment", {"replicas": 2}, status)


def test_a_deployment_is_ready_when_only_new_pods_are_left_and_available() -> None:
    done = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    assert readiness(deployment(**done)) is None
    for unfinished in (
        {"replicas": 3},
        {"updatedReplicas": 1},
        {"availableReplicas": 1},
        {"observedGeneration": 1},
    ):
        assert isinstance(readiness(deployment(**{**done, **unfinished})), Waiting), unfinished


def test_a_deployment_without_progress_has_failed() -> None:
    stuck = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": "timed out",
    }
    state = readiness(deployment(conditions=[stuck]))
    assert isinstance(state, Failed)
    assert "timed out" in state.message


def test_a_failure_of_an_earlier_change_is_not_the_newest_ones() -> None:
    stuck = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "lastUpdateTime": "2026-01-01T10:00:30Z",
    }
    live = deployment(conditions=[stuck], replicas=2, updatedReplicas=1)
    for changed, kind in (("2026-01-01T10:00:00Z", Failed), ("2026-01-01T10:00:40Z", Waiting)):
        entry = {"operation": "Apply", "time": changed, "fieldsV1": {"f:spec": {}}}
        live["metadata"]["managedFields"] = [entry]
        assert isinstance(readiness(live), kind), changed


def test_a_deployment_of_none_is_ready() -> None:
    assert readiness(_live("apps/v1", "Deployment", {"replicas": 0}, {})) is None


def test_a_stateful_set_waits_for_the_pods_that_the_update_touches() -> None:
    spec: dict[str, Any] = {"replicas": 3}
    half = {"readyReplicas": 3, "updatedReplicas": 1}
    assert isinstance(readiness(_live("apps/v1", "StatefulSet", spec, half)), Waiting)
    partition = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}
    assert readiness(_live("apps/v1", "StatefulSet", {**spec, **partition}, half)) is None
    assert (
        readiness(_live("apps/v1", "StatefulSet", {**spec, "updateStrategy": {"type": "OnDelete"}}, half))
        is None
    )
    assert isinstance(readiness(_live("apps/v1", "StatefulSet", spec, {"readyReplicas": 2})), Waiting)


def test_a_daemon_set_is_ready_when_every_node_has_a_new_pod() -> None:
    done = {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}
    assert readiness(_live("apps/v1", "DaemonSet", {}, done)) is None
    assert isinstance(readiness(_live("apps/v1", "DaemonSet", {}, {**done, "numberAvailable": 1})), Waiting)


def test_a_job_is_ready_when_it_has_completed_and_fails_when_it_failed() -> None:
    assert isinstance(readiness(_live("batch/v1", "Job", {}, {"active": 1})), Waiting)
    complete = [{"type": "Complete", "status": "True"}]
    assert readiness(_live("batch/v1", "Job", {}, {"conditions": complete})) is None
    failed = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}]
    assert isinstance(readiness(_live("batch/v1", "Job", {}, {"conditions": failed})), Failed)
    assert readiness(_live("batch/v1", "Job", {"suspend": True}, {})) is None


def test_a_definition_is_ready_when_it_is_served() -> None:
    kind = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    assert isinstance(readiness(_live(*kind)), Waiting)
    assert readiness(_live(*kind, status={"conditions": [{"type": "Established", "status": "True"}]})) is None
    taken = [{"type": "NamesAccepted", "status": "False", "message": "taken"}]
    assert isinstance(readiness(_live(*kind, status={"conditions": taken})), Failed)


def test_kinds_without_a_rule_are_ready() -> None:
    assert readiness(_live("example.com/v1", "Anything")) is None


@pytest.mark.parametrize(
    ("rule", "ready"),
    [
        ("condition=Ready", True),
        ("condition=Ready=False", False),
        ("condition=Programmed", False),
        ("jsonpath={.status.phase}=Good", True),
        ("jsonpath={.status.phase}=Bad", False),
        ("jsonpath={.status.addresses[0].value}", True),
        ("jsonpath={.status.addresses[1].value}", False),
        ("jsonpath={.status.count}=2", True),
        ('["condition=Ready", "jsonpath={.status.phase}=Good"]', True),
        ('["condition=Ready", "jsonpath={.status.phase}=Bad"]', False),
    ],
)
def test_a_rule_of_the_users_own(rule: str, ready: bool) -> None:
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "phase": "Good",
        "addresses": [{"value": "10.0.0.1"}],
        "count": 2,
    }
    live = _live("example.com/v1", "Thing", None, status, annotations={"pulumi.com/waitFor": rule})
    assert (readiness(live) is None) is ready


def test_a_rule_that_cannot_be_read_says_what_can() -> None:
    live = _live("example.com/v1", "Thing", annotations={"pulumi.com/waitFor": "ready please"})
    with pytest.raises(ProviderError, match="condition=NAME"):
        readiness(live)


def _slice(*ready: bool) -> list[dict[str, Any]]:
    return [{"endpoints": [{"conditions": {"ready": one}} for one in ready]}]


def test_a_service_waits_for_the_pods_that_belong_to_it() -> None:
    service = _live("v1", "Service", {"selector": {"app": "x"}, "clusterIP": "10.0.0.1"})
    assert endpoints(service, _slice(True, True)) == (None, True)
    assert isinstance(endpoints(service, _slice(True, False))[0], Waiting)
    assert endpoints(service, []) == (None, False)  # it may be that none is wanted, or not yet


def test_a_service_that_selects_nothing_is_not_waited_for() -> None:
    for spec in ({}, {"selector": {"a": "b"}, "clusterIP": "None"}, {"type": "ExternalName"}):
        assert endpoints(_live("v1", "Service", spec), []) == (None, True)


def test_a_load_balancer_waits_for_its_address() -> None:
    spec = {"type": "LoadBalancer", "selector": {"a": "b"}}
    assert isinstance(endpoints(_live("v1", "Service", spec), _slice(True))[0], Waiting)
    with_address = _live("v1", "Service", spec, {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}})
    assert endpoints(with_address, _slice(True)) == (None, True)


def _pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": status}


def test_a_pod_tells_why_its_image_cannot_be_had() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nope"'}}
    (said,) = of_pod(_pod(containerStatuses=[{"name": "c", "state": waiting}]))
    assert "p, container c: ImagePullBackOff: Back-off pulling" in said


def test_a_pod_tells_what_a_crashing_container_said_last() -> None:
    ended = {"terminated": {"exitCode": 3, "reason": "Error", "message": "model not found\n"}}
    again = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    said = of_pod(_pod(containerStatuses=[{"name": "c", "state": again, "lastState": ended}]))
    assert said == [
        "pod p, container c: CrashLoopBackOff: back-off",
        "pod p, container c: Error, exit code 3: model not found",
    ]


def test_a_container_that_runs_between_two_crashes_still_tells_how_it_ended() -> None:
    """Without a probe a pod is ready as soon as it runs, also in the moment when the wait is over."""
    ready = {"type": "Ready", "status": "True"}
    ended = {"terminated": {"exitCode": 3, "reason": "Error", "message": "model not found\n"}}
    crashing = {"name": "c", "state": {"running": {}}, "lastState": ended}
    pod = _pod(conditions=[ready], containerStatuses=[crashing])
    assert of_pod(pod) == []
    assert of_restarted(pod) == ["pod p, container c: Error, exit code 3: model not found"]
    assert of_restarted(_pod(conditions=[ready], containerStatuses=[{**crashing, "lastState": {}}])) == []


def test_a_pod_tells_that_no_node_fits() -> None:
    unfit = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "Insufficient gpu",
    }
    assert of_pod(_pod(conditions=[unfit])) == ["pod p: Unschedulable: Insufficient gpu"]


def test_a_pod_that_starts_as_it_should_has_nothing_to_tell() -> None:
    creating = {"waiting": {"reason": "ContainerCreating"}}
    assert of_pod(_pod(containerStatuses=[{"name": "c", "state": creating}])) == []
    begun = _pod(containerStatuses=[{"name": "c", "state": creating, "image": "far/model:1"}])
    assert of_begun(begun) == ["pod p, container c: ContainerCreating from far/model:1"]


def test_a_deployment_whose_pods_cannot_be_made_says_why() -> None:
    refused = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "exceeded quota",
    }
    assert of_object(deployment(conditions=[refused])) == ["FailedCreate: exceeded quota"]


def test_events_are_told_newest_first_and_once() -> None:
    events = [
        {"reason": "A", "message": "old", "lastTimestamp": "2026-01-01T00:00:00Z"},
        {"reason": "B", "message": "new", "lastTimestamp": "2026-01-02T00:00:00Z"},
        {"reason": "A", "message": "old", "lastTimestamp": "2026-01-01T00:00:01Z"},
    ]
    assert of_events(events) == ["B: new", "A: old"]
