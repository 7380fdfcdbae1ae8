"""Why a workload does not become ready: what its pods, and the events about it, say."""

from collections.abc import Iterable, Mapping
from typing import Any

from .api import Api
from .errors import ApiError, Unreachable
from .objects import at, name_of, namespace_of
from .readiness import condition

Object = Mapping[str, Any]
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "Pod"}
# Passing states of a container, not worth a word.
_NORMAL = {"ContainerCreating", "PodInitializing", "Completed"}
MOST = 5
"""So many different reasons are told; pods of one workload fail alike."""


def reasons(api: Api, live: Object) -> list[str]:
    """What is wrong with a workload, most telling first; empty where nothing is, or nothing can be told."""
    found = of_object(live)
    if str(live.get("kind")) not in WORKLOADS:
        return found
    try:
        seen = pods(api, live)
        for pod in seen:
            found += of_pod(pod)
        if not found:  # caught between two of its ends, a container that crashes looks well
            found += [one for pod in seen for one in of_restarted(pod)]
        if not found:  # events are the last resort: they speak of what has passed, too
            found += of_events(_events(api, namespace_of(live), at(live, "metadata", "uid", default="")))
        if not found:  # an image whose registry does not answer is pulled for long, without a word
            found += [one for pod in seen for one in of_begun(pod)]
    except (ApiError, Unreachable):
        return found
    return list(dict.fromkeys(found))[:MOST]


def of_object(live: Object) -> list[str]:
    """What the object itself says: pods that could not even be made, for a quota or a policy."""
    failure = condition(live, "ReplicaFailure")
    return [f"{failure.get('reason')}: {failure.get('message')}"] if failure.get("status") == "True" else []


def pods(api: Api, live: Object) -> list[Object]:
    """The pods of a workload; of a Deployment those of the newest template only."""
    if live.get("kind") == "Pod":
        return [live]
    labels = dict(at(live, "spec", "selector", "matchLabels", default={}))
    namespace = namespace_of(live)
    owners = {at(live, "metadata", "uid")}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    if not selector:
        return []
    query = {"labelSelector": selector, "limit": 100}
    if live.get("kind") == "Deployment":
        revision = at(live, "metadata", "annotations", "deployment.kubernetes.io/revision")
        listed = api.get(f"/apis/apps/v1/namespaces/{namespace}/replicasets", query)["items"]
        owners = {
            at(one, "metadata", "uid")
            for one in listed
            if at(one, "metadata", "annotations", "deployment.kubernetes.io/revision") == revision
            and _owned(one, owners)
        }
    listed = api.get(f"/api/v1/namespaces/{namespace}/pods", query)["items"]
    return [{**one, "kind": "Pod"} for one in listed if _owned(one, owners)]


def _owned(one: Object, owners: Iterable[Any]) -> bool:
    return any(owner.get("uid") in owners for owner in at(one, "metadata", "ownerReferences", default=[]))


def of_pod(pod: Object) -> list[str]:
    """Why a pod is not ready."""
    if condition(pod, "Ready").get("status") == "True" or at(pod, "metadata", "deletionTimestamp"):
        return []
    found = []
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        found.append(f"pod {name_of(pod)}: {scheduled.get('reason')}: {scheduled.get('message')}")
    status = at(pod, "status", default={})
    for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        found += _of_container(name_of(pod), entry)
    if status.get("phase") == "Failed" and not found:
        found.append(f"pod {name_of(pod)}: {status.get('reason', 'Failed')}: {status.get('message', '')}")
    return found


def of_restarted(pod: Object) -> list[str]:
    """How the containers of a pod that runs now ended the last time, where they failed."""
    if at(pod, "metadata", "deletionTimestamp"):
        return []
    found = []
    for entry in at(pod, "status", "containerStatuses", default=[]):
        ended = at(entry, "lastState", "terminated")
        if ended and ended.get("exitCode"):
            found += _of_container(name_of(pod), {**entry, "state": {"terminated": ended}})
    return found


def of_begun(pod: Object) -> list[str]:
    """The containers of a pod that have not begun yet, and from which image they are made."""
    return [
        f"pod {name_of(pod)}, container {entry.get('name')}: {reason} from {entry.get('image')}"
        for entry in at(pod, "status", "containerStatuses", default=[])
        if (reason := at(entry, "state", "waiting", "reason")) in _NORMAL
    ]


def _of_container(pod: str, entry: Object) -> list[str]:
    where = f"pod {pod}, container {entry.get('name')}"
    ended = at(entry, "state", "terminated") or at(entry, "lastState", "terminated")
    waiting = at(entry, "state", "waiting", default={})
    found = []
    if waiting.get("reason") and waiting["reason"] not in _NORMAL:
        found.append(f"{where}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": "))
    if ended and ended.get("exitCode"):
        said = (ended.get("message") or "").strip()
        found.append(
            f"{where}: {ended.get('reason', 'Error')}, exit code {ended['exitCode']}"
            + (f": {said}" if said else "")
        )
    return found


def _events(api: Api, namespace: str, uid: str) -> list[Object]:
    query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning", "limit": 50}
    return list(api.get(f"/api/v1/namespaces/{namespace}/events", query)["items"])


def of_events(events: Iterable[Object]) -> list[str]:
    """Warnings about an object, the newest first."""
    newest = sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return list(dict.fromkeys(f"{one.get('reason')}: {one.get('message')}" for one in reversed(newest)))


def of_unready(api: Api, live: Object) -> list[str]:
    """The warnings about a workload's pods that run and are not ready: what their probes say."""
    try:
        return [
            f"pod {name_of(pod)}: {said}"
            for pod in pods(api, live)[:MOST]
            if condition(pod, "Ready").get("status") != "True"
            for said in of_events(_events(api, namespace_of(pod), at(pod, "metadata", "uid", default="")))[:2]
        ][:MOST]
    except (ApiError, Unreachable):
        return []
