"""Metrics, alerts and dashboards of the endpoints, for a Prometheus and a Grafana that are there.

The names of metrics are those of the bundled model server.
"""

import json
from collections.abc import Mapping

import yaml
from pulumi import Input, Output, Resource

from ...spec import Endpoint, MonitoringSettings, Scrape
from ..objects import LABEL, Manifest, labels_of, make, meta
from .dashboard import dashboard
from .rules import rules

__all__ = ["monitoring"]


def monitoring(
    name: str,
    host: Input[str],
    endpoints: Mapping[str, Endpoint],
    settings: MonitoringSettings,
    parent: Resource,
) -> None:
    """One object that finds the servers, one with the rules of all endpoints, one dashboard an endpoint."""
    groups = Output.from_input(host).apply(lambda namespace: rules(endpoints, namespace))
    if settings.scrape is Scrape.SERVICE_MONITOR:
        make(name, service_monitor(name, host, settings), parent)
        make(name, prometheus_rule(name, host, groups, settings), parent)
    else:
        make(f"{name}-rules", rules_file(f"{name}-rules", host, groups), parent)
    if settings.dashboards is False:
        return
    for endpoint, spec in endpoints.items():
        make(f"{endpoint}-dashboard", dashboard_map(endpoint, host, spec), parent)


def service_monitor(name: str, namespace: Input[str], settings: MonitoringSettings) -> Manifest:
    """Every model server of the namespace; variants are told apart by the labels of their pods."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": meta(name, namespace, {**labels_of("monitoring", name), **(settings.labels or {})}),
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": "model-server"}},
            "podTargetLabels": [f"{LABEL}/endpoint", f"{LABEL}/variant"],
            "endpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
        },
    }


def prometheus_rule(
    name: str, namespace: Input[str], groups: Input[list[Manifest]], settings: MonitoringSettings
) -> Manifest:
    """The rules, for the Prometheus Operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": meta(name, namespace, {**labels_of("monitoring", name), **(settings.labels or {})}),
        "spec": {"groups": groups},
    }


def rules_file(name: str, namespace: Input[str], groups: Output[list[Manifest]]) -> Manifest:
    """The rules as a file that a Prometheus can mount."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(name, namespace, labels_of("monitoring", name)),
        "data": {
            "rules.yaml": groups.apply(lambda found: yaml.safe_dump({"groups": found}, sort_keys=False))
        },
    }


def dashboard_map(endpoint: str, namespace: Input[str], spec: Endpoint) -> Manifest:
    """A dashboard, where Grafana's sidecar looks for them."""
    name = f"{endpoint}-dashboard"
    text = Output.from_input(namespace).apply(
        lambda where: json.dumps(dashboard(endpoint, spec, where), indent=1)
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(name, namespace, {**labels_of("monitoring", name), "grafana_dashboard": "1"}),
        "data": {f"{endpoint}.json": text},
    }
