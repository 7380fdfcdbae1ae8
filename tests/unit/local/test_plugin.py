"""The plugin where only what every platform needs is installed."""

import subprocess
import sys

WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("psutil", "supervisor", "envoy", "mlflow", "numpy", "scipy"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Without())
import components.plugin
from components.kubernetes.kinds.weights import Weights
"""


def test_a_stack_of_a_cluster_needs_no_package_of_the_local_platform() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
