"""What a cluster lacks is said soon and in so many words, and the next update goes on from there."""

import time
from pathlib import Path

from tests.cluster.estate.conftest import KUBERNETES, SOON_S, light_blocks
from tests.cluster.estate.stack import ClusterStack
from tests.cluster.estate.tiny import ENDPOINT
from tests.cluster.estate.without import without


def test_what_a_cluster_lacks_is_said_at_once(
    light: ClusterStack, models: str, cluster: Path, tmp_path: Path
) -> None:
    """No Gateway API, an image that is not there: both in one update, which the next ones go on from."""
    wanted = light_blocks(models, {"min": 3})
    wanted["kubernetes"] = {**KUBERNETES, "images": {"model_server": "serving-estate/none:dev"}}
    light.configure(**wanted)
    with without("gateway.networking.k8s.io", cluster, tmp_path) as lacking:
        light.env["KUBECONFIG"] = str(lacking)
        began = time.monotonic()
        said = light.up(check=False)
        took = time.monotonic() - began
    light.env["KUBECONFIG"] = str(cluster)
    assert "does not serve Gateway in gateway.networking.k8s.io/v1: install" in said
    assert "serving-estate/none:dev" in said
    assert "Traceback" not in said
    assert took < SOON_S


def test_a_registry_that_cannot_be_reached_is_named(light: ClusterStack, models: str) -> None:
    wanted = light_blocks(models, {"min": 3})
    wanted["registry"] = {"uri": "http://registry.nowhere.svc:5000"}
    wanted["endpoints"][ENDPOINT]["variants"]["lost"] = {"model": "models:/tiny/1", "scaling": {"min": 1}}
    wanted["endpoints"][ENDPOINT]["traffic"] = {"blue": 100}
    light.configure(**wanted)
    began = time.monotonic()
    said = light.up(check=False)
    assert time.monotonic() - began < SOON_S
    assert "registry.nowhere.svc:5000" in said
    assert "tiny-lost" in said
    assert "Traceback" not in said
    light.configure(**light_blocks(models, {"min": 1}))
    light.up()
    light.up("--expect-no-changes")
