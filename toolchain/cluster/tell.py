"""What may be wrong with a cluster whose tests failed: its pods, its gateways, the last warnings and logs."""

from toolchain.cache import ToolError

from . import binaries
from .api import Kubectl

WARNINGS = 40
LINES = 150
ASKED = (
    ("get", "pods", "--all-namespaces", "--output=wide"),
    ("get", "gateways", "--all-namespaces"),
    ("get", "events", "--all-namespaces", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"),
    ("logs", "deployment/envoy-gateway", "--namespace=envoy-gateway-system", f"--tail={LINES}"),
)


def tell() -> None:
    """Print it; a question that is not answered says so."""
    kubectl = Kubectl(binaries.program("kubectl"))
    for question in ASKED:
        print(f"-- kubectl {' '.join(question)}")
        try:
            said = kubectl(*question).splitlines()
        except ToolError as error:
            said = [str(error)]
        print("\n".join(said[-WARNINGS:] if "events" in question else said))
