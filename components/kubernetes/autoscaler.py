"""What makes replicas more and fewer: Kubernetes' own autoscaler or KEDA, never both."""

from collections.abc import Sequence

from pulumi import Input, Output, Resource

from ..arguments import ArgumentsError
from ..spec import AutoscalerName, KubernetesSettings, Problem, Scaling
from ..spec.scaling import wrong_autoscaler
from .objects import Manifest, checked_name, labels_of, make, meta

# What `monitoring.rules` records for each pod; a custom metrics adapter offers series by their pod as they
# are.
REQUESTS = "model_server_requests_per_second"
LATENCY = "model_server_latency_p99_seconds"
QUEUE = "model_server_queue_length"
_CPU_PERCENT = 70


def autoscaler(
    name: str,
    service: Input[str],
    scaling: Scaling,
    settings: KubernetesSettings,
    prometheus: str | None,
    endpoint: str | None,
    parent: Resource,
) -> None:
    """Scale the Deployment behind a service, whose handle is `name.namespace`.

    Raises:
        ArgumentsError: this autoscaler cannot keep to what `scaling` says.
    """
    checked_name("Autoscaler", name)
    keda = settings.autoscaler is AutoscalerName.KEDA
    wrong = wrong_autoscaler(scaling, keda=keda, prometheus=prometheus)
    problems: list[Problem] = [(("scaling", *path), message) for path, message in wrong]
    if scaling.zero_after_s is not None and not endpoint:
        message = "must be named for `zero_after_s`: its requests are what brings a replica back"
        problems.append((("endpoint",), message))
    if problems:
        raise ArgumentsError(f"Autoscaler {name}", problems)
    parts = Output.from_input(service).apply(lambda handle: handle.split("."))
    target, namespace = parts.apply(lambda found: found[0]), parts.apply(lambda found: found[1])
    if keda:
        manifest = scaled_object(name, namespace, target, scaling, prometheus or "", endpoint or "")
        make(name, manifest, parent)
    else:
        make(name, horizontal(name, namespace, target, scaling), parent)


def horizontal(name: str, namespace: Input[str], target: Input[str], scaling: Scaling) -> Manifest:
    """A HorizontalPodAutoscaler."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta(name, namespace, labels_of("autoscaler", name)),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "minReplicas": scaling.min or 1,
            "maxReplicas": most(scaling),
            "metrics": [*metrics(scaling)],
            "behavior": behaviour(scaling),
        },
    }


def metrics(scaling: Scaling) -> list[Manifest]:
    """The targets; CPU where there is none."""
    found = []
    percent = cpu_percent(scaling)
    if percent:
        target = {"type": "Utilization", "averageUtilization": percent}
        found.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    for metric, value in pod_targets(scaling):
        found.append(
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": metric},
                    "target": {"type": "AverageValue", "averageValue": quantity(value)},
                },
            }
        )
    if scaling.external:
        metric_of: Manifest = {"name": scaling.external.name}
        if scaling.external.labels:
            metric_of["selector"] = {"matchLabels": dict(scaling.external.labels)}
        target = {"type": "AverageValue", "averageValue": quantity(scaling.external.per_replica)}
        found.append({"type": "External", "external": {"metric": metric_of, "target": target}})
    return found


def cpu_percent(scaling: Scaling) -> int | None:
    """The target for CPU; none where other targets were given and this one was not."""
    others = pod_targets(scaling) or scaling.external
    return scaling.cpu_percent or (None if others else _CPU_PERCENT)


def pod_targets(scaling: Scaling) -> Sequence[tuple[str, float]]:
    """The targets that are measured in the servers, by the name of the metric."""
    found = [
        (REQUESTS, scaling.requests_per_second),
        (LATENCY, scaling.latency_p99_ms and scaling.latency_p99_ms / 1000),
        (QUEUE, scaling.queue_length),
    ]
    return [(metric, float(value)) for metric, value in found if value]


def behaviour(scaling: Scaling) -> Manifest:
    """How fast: up at once and by as much again, down by one replica or a tenth a minute."""
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": scaling.scale_up_s or 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 15},
                {"type": "Pods", "value": 4, "periodSeconds": 15},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 300 if scaling.scale_down_s is None else scaling.scale_down_s,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 10, "periodSeconds": 60},
                {"type": "Pods", "value": 1, "periodSeconds": 60},
            ],
        },
    }


def scaled_object(
    name: str, namespace: Input[str], target: Input[str], scaling: Scaling, prometheus: str, endpoint: str
) -> Manifest:
    """A ScaledObject of KEDA, which makes a HorizontalPodAutoscaler of its own; requests for `endpoint` bring
    the first replica back."""
    spec: Manifest = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
        "minReplicaCount": 0 if scaling.zero_after_s else scaling.min or 1,
        "maxReplicaCount": most(scaling),
        "advanced": {"horizontalPodAutoscalerConfig": {"name": name, "behavior": behaviour(scaling)}},
        "triggers": triggers(target, namespace, scaling, prometheus, endpoint),
    }
    if scaling.zero_after_s:
        spec["cooldownPeriod"] = scaling.zero_after_s
        if (scaling.min or 1) > 1:
            spec["idleReplicaCount"], spec["minReplicaCount"] = 0, scaling.min
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": meta(name, namespace, labels_of("autoscaler", name)),
        "spec": spec,
    }


def triggers(
    target: Input[str], namespace: Input[str], scaling: Scaling, prometheus: str, endpoint: str
) -> list[Manifest]:
    """What KEDA looks at."""
    found: list[Manifest] = []
    percent = cpu_percent(scaling)
    if percent:
        found.append({"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(percent)}})
    combine = {REQUESTS: "sum", LATENCY: "max", QUEUE: "sum"}
    for metric, value in pod_targets(scaling):
        # A latency is not shared among replicas: its target is for the slowest one, not for the mean.
        kind = "Value" if metric == LATENCY else "AverageValue"
        head = f'{combine[metric]}({metric}{{namespace="'
        # A pod is called variant-generation-pod; `-.*` would be those of a variant `blue-2` as well.
        query = Output.concat(head, namespace, '",pod=~"', target, '-[^-]+-[^-]+"})')
        found.append(_prometheus(prometheus, query, f"{value:g}", kind))
    if scaling.external:
        told = ",".join(f'{key}="{value}"' for key, value in sorted((scaling.external.labels or {}).items()))
        query = Output.from_input(f"sum({scaling.external.name}{{{told}}})")
        found.append(_prometheus(prometheus, query, f"{scaling.external.per_replica:g}", "AverageValue"))
    if scaling.zero_after_s:
        # The gateway counts requests that find nobody, too: they are what brings a replica back.
        head = 'sum(rate(envoy_cluster_upstream_rq_total{envoy_cluster_name=~"(http|grpc)route/'
        query = Output.concat(head, namespace, "/", endpoint, '/.*"}[1m])) or vector(0)')
        found.append(_prometheus(prometheus, query, "1000000", "AverageValue", activation="0"))
    return found


def _prometheus(address: str, query: Input[str], threshold: str, kind: str, activation: str = "") -> Manifest:
    metadata = {"serverAddress": address, "query": query, "threshold": threshold}
    if activation:
        metadata["activationThreshold"] = activation
    return {"type": "prometheus", "metricType": kind, "metadata": metadata}


def most(scaling: Scaling) -> int:
    """The most replicas."""
    return max(scaling.max or 0, scaling.min or 1)


def quantity(value: float) -> str:
    """A number as Kubernetes writes it: in thousandths where it is not whole."""
    return str(int(value)) if value == int(value) else f"{round(value * 1000)}m"
