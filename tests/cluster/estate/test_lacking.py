"""A cluster that lacks what an estate needs: soon said, in so many words, and mended by the next update."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster.estate.conftest import KUBERNETES, SOON_S, light_blocks
from tests.cluster.estate.stack import ClusterStack
from tests.cluster.estate.tiny import ENDPOINT, ask
from tests.cluster.estate.traffic import HOST
from tests.cluster.estate.without import without

IMPATIENT = {**KUBERNETES, "startup_s": 12}
"""Enough to find that an image is not there."""
# Both fail at once on every network; a name that a resolver or a proxy is asked for may take long to fail.
NO_IMAGE = "localhost:9/serving-estate/none:dev"
NO_REGISTRY = "registry.nowhere.svc.cluster.local.:5000"


def failed_up(stack: ClusterStack, wanted: dict[str, Any]) -> str:
    """What an update says that has to fail."""
    stack.configure(**wanted)
    began = time.monotonic()
    said = stack.up(check=False)
    took = time.monotonic() - began
    assert "Traceback" not in said
    assert took < SOON_S, said
    return said


def test_what_a_cluster_lacks_is_said_soon_and_in_so_many_words(
    light: ClusterStack,
    models: str,
    cluster: Path,
    tmp_path: Path,
    reach: Callable[[ClusterStack], str],
) -> None:
    wanted = light_blocks(models, {"min": 1})
    missing = {**wanted, "kubernetes": {"images": {"model_server": NO_IMAGE}, **IMPATIENT}}
    with without("gateway.networking.k8s.io", cluster, tmp_path) as without_it:
        light.env["KUBECONFIG"] = str(without_it)
        said = failed_up(light, missing)
    light.env["KUBECONFIG"] = str(cluster)
    assert "does not serve Gateway in gateway.networking.k8s.io/v1: install" in said
    assert NO_IMAGE in said

    endpoint = wanted["endpoints"][ENDPOINT]
    lost = {"model": "models:/tiny/1", "scaling": {"min": 1}}
    unreachable = {
        **wanted,
        "kubernetes": {**KUBERNETES, "startup_s": 45},  # it tries for 20 s, and a node may be busy
        "registry": {"uri": f"http://{NO_REGISTRY}"},
        "endpoints": {
            ENDPOINT: {
                **endpoint,
                "variants": {**endpoint["variants"], "lost": lost},
                "traffic": {"blue": 100},
            }
        },
    }
    said = failed_up(light, unreachable)
    assert NO_REGISTRY in said
    assert "tiny-lost" in said

    light.configure(**wanted)
    light.up()
    assert ask(reach(light), HOST) == (2, "blue")
