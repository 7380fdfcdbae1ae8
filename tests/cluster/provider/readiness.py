"""When an object is what was asked for, told from the object alone.

The rules are those of `kubectl rollout status` and of the official provider's awaiters.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ProviderError
from .objects import WAIT_FOR, annotation, at

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Waiting:
    """Not yet; `message` says what for."""

    message: str


@dataclass(frozen=True)
class Failed:
    """It will not become ready by waiting."""

    message: str


State = Waiting | Failed | None
"""`None` when the object is ready."""


def readiness(live: Object) -> State:
    """Whether an object is ready. Services and claims, which need other objects, are told elsewhere."""
    rule = custom_rule(live)
    if rule:
        return rule(live)
    group_kind = (str(live.get("apiVersion", "")).rpartition("/")[0], str(live.get("kind", "")))
    found = RULES.get(group_kind)
    return found(live) if found else None


def condition(live: Object, kind: str) -> Object:
    """One of `status.conditions`; empty where it is not there."""
    for entry in at(live, "status", "conditions", default=[]):
        if entry.get("type") == kind:
            return dict(entry)
    return {}


def _observed(live: Object) -> State:
    if at(live, "status", "observedGeneration", default=0) < at(live, "metadata", "generation", default=0):
        return Waiting("the controller has not seen the change yet")
    return None


def deployment(live: Object) -> State:
    """Ready when the newest pods are all there and available, and the old ones are gone."""
    if at(live, "spec", "paused"):
        return None
    if unseen := _observed(live):
        return unseen
    progressing = condition(live, "Progressing")
    if progressing.get("reason") == "ProgressDeadlineExceeded" and not _before_last_change(live, progressing):
        return Failed(f"the rollout makes no progress: {progressing.get('message')}")
    status = at(live, "status", default={})
    wanted = at(live, "spec", "replicas", default=1)
    updated, all_pods = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available = status.get("availableReplicas", 0)
    if updated < wanted:
        return Waiting(f"{updated} of {wanted} new pods made")
    if all_pods > updated:
        return Waiting(f"{all_pods - updated} old pods are ending")
    if available < updated:
        return Waiting(f"{available} of {updated} new pods available")
    return None


def _before_last_change(live: Object, told: Object) -> bool:
    """Whether a condition is of an earlier change: the controller keeps it until the rollout goes on, even
    where the change leads back to pods that run already."""
    changes = [
        str(entry.get("time", ""))
        for entry in at(live, "metadata", "managedFields", default=[])
        if not entry.get("subresource") and "f:spec" in (entry.get("fieldsV1") or {})
    ]
    return bool(changes) and str(told.get("lastUpdateTime", "")) <= max(changes)


def stateful_set(live: Object) -> State:
    """Ready when every pod that the update strategy touches is of the newest revision, and all are ready."""
    if unseen := _observed(live):
        return unseen
    status = at(live, "status", default={})
    wanted = at(live, "spec", "replicas", default=1)
    ready = status.get("readyReplicas", 0)
    if ready < wanted:
        return Waiting(f"{ready} of {wanted} pods ready")
    strategy = at(live, "spec", "updateStrategy", default={})
    if strategy.get("type") == "OnDelete":
        return None
    updated = status.get("updatedReplicas", 0)
    due = wanted - at(strategy, "rollingUpdate", "partition", default=0)
    if updated < due:
        return Waiting(f"{updated} of {due} pods updated")
    return None


def daemon_set(live: Object) -> State:
    """Ready when there is an available pod of the newest template on every node that should have one."""
    if unseen := _observed(live):
        return unseen
    status = at(live, "status", default={})
    wanted = status.get("desiredNumberScheduled", 0)
    updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
    if updated < wanted and at(live, "spec", "updateStrategy", "type") != "OnDelete":
        return Waiting(f"new pods on {updated} of {wanted} nodes")
    if available < wanted:
        return Waiting(f"available on {available} of {wanted} nodes")
    return None


def job(live: Object) -> State:
    """Ready when the job has completed."""
    failed = condition(live, "Failed")
    if failed.get("status") == "True":
        return Failed(f"the job failed: {failed.get('reason')}: {failed.get('message')}")
    if condition(live, "Complete").get("status") == "True" or at(live, "spec", "suspend"):
        return None
    status = at(live, "status", default={})
    return Waiting(
        f"{status.get('succeeded', 0)} of {at(live, 'spec', 'completions', default=1)} completed, "
        f"{status.get('active', 0)} active, {status.get('failed', 0)} failed"
    )


def pod(live: Object) -> State:
    """Ready when the pod says so, or has done its work."""
    phase = at(live, "status", "phase", default="Pending")
    if phase == "Succeeded" or condition(live, "Ready").get("status") == "True":
        return None
    if phase == "Failed":
        return Failed(
            f"the pod failed: {at(live, 'status', 'message') or at(live, 'status', 'reason', default='')}"
        )
    return Waiting(f"{phase}: {condition(live, 'Ready').get('message') or 'not ready yet'}")


def definition(live: Object) -> State:
    """A CustomResourceDefinition is ready when its kind is served."""
    names = condition(live, "NamesAccepted")
    if names.get("status") == "False":
        return Failed(f"its names are taken: {names.get('message')}")
    if condition(live, "Established").get("status") == "True":
        return None
    return Waiting("the API server does not serve it yet")


def _phase(*good: str) -> Callable[[Object], State]:
    def rule(live: Object) -> State:
        phase = at(live, "status", "phase", default="Pending")
        return None if phase in good else Waiting(f"it is {phase}")

    return rule


def quota(live: Object) -> State:
    """A quota counts once the controller has written down what it limits."""
    same = at(live, "spec", "hard", default={}) == at(live, "status", "hard", default={})
    return None if same else Waiting("the controller has not taken it up yet")


def secret(live: Object) -> State:
    """A service account's token is written by a controller."""
    if live.get("type") == "kubernetes.io/service-account-token" and not live.get("data"):
        return Waiting("the controller has not written the token yet")
    return None


RULES: Mapping[tuple[str, str], Callable[[Object], State]] = {
    ("apps", "Deployment"): deployment,
    ("apps", "StatefulSet"): stateful_set,
    ("apps", "DaemonSet"): daemon_set,
    ("batch", "Job"): job,
    ("", "Pod"): pod,
    ("", "Namespace"): _phase("Active"),
    ("", "PersistentVolume"): _phase("Available", "Bound"),
    ("", "PersistentVolumeClaim"): _phase("Bound"),
    ("", "ResourceQuota"): quota,
    ("", "Secret"): secret,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): definition,
}


def endpoints(service: Object, slices: Sequence[Object]) -> tuple[State, bool]:
    """Whether a Service has somewhere to send requests, and whether that is for sure.

    A Service that no pod belongs to is taken for ready when that stays so for a while: its pods may be made
    later, or none be wanted.
    """
    spec = at(service, "spec", default={})
    if spec.get("type") == "LoadBalancer" and not at(service, "status", "loadBalancer", "ingress"):
        return (
            Waiting("it was not given an address yet: does something in this cluster serve load balancers?"),
            True,
        )
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None" or not spec.get("selector"):
        return None, True
    listed = [entry for part in slices for entry in part.get("endpoints") or []]
    pending = sum(
        at(entry, "conditions", "ready") is False and not at(entry, "conditions", "terminating")
        for entry in listed
    )
    ready = sum(at(entry, "conditions", "ready", default=True) is True for entry in listed)
    if pending:
        return Waiting(f"{pending} of its pods not ready, {ready} ready"), True
    return None, ready > 0


def custom_rule(live: Object) -> Callable[[Object], State] | None:
    """The rule in the annotation `pulumi.com/waitFor`: `condition=Ready`, `jsonpath={.status.phase}=Running`,
    or several in a JSON array. Raises `ProviderError` for what cannot be read.
    """
    written = annotation(live, WAIT_FOR)
    if not written:
        return None
    try:
        wanted = json.loads(written)
    except ValueError:
        wanted = written
    rules = [_one_rule(str(one)) for one in (wanted if isinstance(wanted, list) else [wanted])]

    def rule(live: Object) -> State:
        return next((state for one in rules if (state := one(live)) is not None), None)

    return rule


_JSONPATH = re.compile(r"jsonpath=\{?((?:\.[\w-]+|\[\d+\])+)\}?(?:=(.*))?")
_CONDITION = re.compile(r"condition=([\w./-]+)(?:=(\w+))?")


def _one_rule(written: str) -> Callable[[Object], State]:
    if found := _CONDITION.fullmatch(written):
        kind, wanted = found[1], found[2] or "True"

        def by_condition(live: Object) -> State:
            entry = condition(live, kind)
            if str(entry.get("status", "")).lower() == wanted.lower():
                return None
            return Waiting(
                f"condition {kind} is {entry.get('status', 'not there')} {entry.get('message', '')}".strip()
            )

        return by_condition
    if found := _JSONPATH.fullmatch(written):
        steps, value = re.findall(r"\.([\w-]+)|\[(\d+)\]", found[1]), found[2]

        def by_path(live: Object) -> State:
            have: Any = live
            for name, index in steps:
                if name:
                    have = have.get(name) if isinstance(have, Mapping) else None
                else:
                    have = have[int(index)] if isinstance(have, list) and int(index) < len(have) else None
            shown = have if isinstance(have, str) else json.dumps(have)
            if have is None or (value is not None and shown != value):
                return Waiting(f"{found[1]} is {'not there' if have is None else shown}")
            return None

        return by_path
    raise ProviderError(
        f"`{WAIT_FOR}: {written}` cannot be read here: write `condition=NAME`, `condition=NAME=False` or "
        "`jsonpath={.a.b[0].c}=VALUE`"
    )
