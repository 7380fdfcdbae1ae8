"""What is measured and who is told."""

from enum import Enum

from pydantic import Field

from .base import Spec


class Scrape(Enum):
    """How Prometheus finds the model servers."""

    ANNOTATIONS = "annotations"
    """By `prometheus.io/…` annotations of the pods."""
    SERVICE_MONITOR = "service-monitor"
    """By a ServiceMonitor of the Prometheus Operator."""


class MonitoringSettings(Spec):
    """Metrics, alerts and dashboards of every endpoint, for a Prometheus and a Grafana that are there. The
    servers of `platform: local` have metrics, too, but nobody who collects them."""

    scrape: Scrape | None = Field(default=Scrape.ANNOTATIONS, strict=False, examples=["service-monitor"])
    """How Prometheus finds the servers. Rules and alerts are a PrometheusRule with `service-monitor`, else a
    ConfigMap with a rules file."""

    labels: dict[str, str] | None = Field(default=None, examples=[{"release": "prometheus"}])
    """Labels by which the Prometheus Operator selects ServiceMonitors and PrometheusRules."""

    dashboards: bool | None = Field(default=True, examples=[False])
    """A Grafana dashboard an endpoint, as a ConfigMap with the label `grafana_dashboard`."""

    prometheus: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+",
        examples=["http://prometheus-operated.monitoring:9090"],
        json_schema_extra={"kind": "an http:// or https:// address"},
    )
    """Where KEDA asks Prometheus; needed for its targets other than CPU."""
