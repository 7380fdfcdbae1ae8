"""The programs in the documentation are run, and make what the text beside them says."""

import re
from pathlib import Path

import pytest

from tests.unit.kubernetes.conftest import run

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes-parts.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
MAKES = [
    {"Deployment", "Service", "ServiceAccount", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget"},
    {"HorizontalPodAutoscaler"},
    {"Gateway", "HTTPRoute", "GRPCRoute", "BackendTrafficPolicy", "SecurityPolicy", "HTTPRouteFilter"},
    {
        *("Deployment", "Service", "ServiceAccount", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget"),
        *("HorizontalPodAutoscaler", "HTTPRoute", "GRPCRoute", "BackendTrafficPolicy", "HTTPRouteFilter"),
    },
    {"Deployment", "Service", "ServiceAccount", "NetworkPolicy"},
    {"Namespace", "ConfigMap", "DaemonSet"},
    {"Namespace", "ConfigMap", "Release"},
    {"ServiceMonitor", "PrometheusRule", "ConfigMap"},
]


@pytest.mark.parametrize(("program", "makes"), list(zip(PROGRAMS, MAKES, strict=True)))
def test_a_program_of_the_documentation_makes_what_it_says(program: str, makes: set[str]) -> None:
    asked = run(lambda: exec(compile(program, str(PAGE), "exec"), {})).asked
    kinds = [args.typ.rsplit(":", 1)[1] for args in asked if args.typ.startswith("kubernetes:")]
    assert set(kinds) == makes
