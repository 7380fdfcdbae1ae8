"""The driver and the gate as pods, of the image that their Dockerfile makes."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from components import RolloutGate
from tests.cluster.estate.conftest import listens
from tests.cluster.estate.traffic import until
from tests.cluster.rollout import driver_image
from tests.cluster.rollout.conftest import ROLLOUT, Rollouts
from tests.cluster.rollout.test_job import NAME, apply, objects
from tests.engine.local.load import Load
from tests.unit.kubernetes.conftest import run

pytestmark = pytest.mark.long
CLAIM, SECRET, GATE = "state", "rollout", "gate"


@pytest.fixture(scope="module")
def image(rollouts: Rollouts, own_cluster: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the image, which the node has; in it is the stack as it is configured then."""
    if not own_cluster:
        pytest.skip("an image is given to the node of `make cluster` only")
    analysis = {name: part for name, part in ROLLOUT["analysis"].items() if name != "golden"}
    rollouts.configure("blue", "good", steps=[{"percent": 30}, {"percent": 100}], analysis=analysis)
    rollouts.stack.up()
    driver_image.load(rollouts.stack, tmp_path_factory.mktemp("image"))
    yield driver_image.NAME
    driver_image.unload()


@pytest.fixture
def claim(rollouts: Rollouts) -> Iterator[str]:
    """A claim on the folder with the stack's state, which is anybody's for as long."""
    backend = rollouts.stack.home / "backend"
    for path in (backend, *backend.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    volume = f"{rollouts.stack.namespace}-{CLAIM}"
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    amount = {"storage": "1Gi"}
    apply(
        rollouts,
        [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": volume},
                "spec": {**spec, "capacity": amount, "hostPath": {"path": str(backend)}},
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": CLAIM, "namespace": rollouts.stack.namespace},
                "spec": {**spec, "volumeName": volume, "resources": {"requests": amount}},
            },
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": SECRET, "namespace": rollouts.stack.namespace},
                "stringData": {"PULUMI_CONFIG_PASSPHRASE": ""},
            },
        ],
    )
    yield CLAIM
    rollouts.stack.run("delete", "persistentvolume", volume, "--wait=false")


def test_a_job_drives_a_rollout_to_its_end(rollouts: Rollouts, image: str, claim: str, load: Load) -> None:
    idle = rollouts.idle()
    job = objects(rollouts.stack.namespace, image=image, claim=claim, secret=SECRET, candidate=idle)
    with load:
        apply(rollouts, job)

        def over() -> bool:
            status = rollouts.stack.kubectl("get", "job", NAME).get("status") or {}
            ended = {one["type"] for one in status.get("conditions", ()) if one["status"] == "True"}
            assert "Failed" not in ended, said()
            return "Complete" in ended

        def said() -> str:
            return rollouts.stack.run("logs", f"job/{NAME}", "--tail=100")

        rollouts.wait_for(over, "an end of the job", 240)
    load.report("driven by a pod")
    assert load.failures == []
    assert "Traceback" not in said()
    assert rollouts.weights() == {idle: 100}
    assert [*rollouts.routed()] == [idle]
    (end,) = [record for record in rollouts.records() if record["event"] == "finished"]
    assert end["result"] == "promoted"
    assert end["who"].startswith(f"estate-rollout@{NAME}-"), "it was the pod"
    rollouts.stack.up("--expect-no-changes")


def test_a_gate_reads_routes_and_metrics_with_its_own_rights(rollouts: Rollouts, image: str) -> None:
    namespace = rollouts.stack.namespace
    args: Any = {"image": image, "host": namespace}
    apply(rollouts, [*run(lambda: RolloutGate(GATE, args)).objects.values()])
    rollouts.stack.run("rollout", "status", f"deployment/{GATE}", "--timeout=120s")
    # A route as Flagger leaves it at a fifth, of which the servers of this estate are the ends.
    ends = [
        {"group": "", "kind": "Service", "name": f"asked-{name}", "port": 8080, "weight": weight}
        for name, weight in (("primary", 80), ("canary", 20))
    ]
    route = {"parentRefs": [{"name": "nobodys"}], "rules": [{"backendRefs": ends}]}
    apply(
        rollouts,
        [
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": "asked", "namespace": namespace},
                "spec": route,
            }
        ],
    )
    address = rollouts.stack.kubectl("get", "service", GATE)["spec"]["clusterIP"]
    until(lambda: listens(8080, address))  # the node learns of a Service's pods after they are ready
    rollout = json.dumps({"steps": [{"percent": 20}, {"percent": 100}]})
    told = {"endpoint": "asked", "target": "tiny-blue", "rollout": rollout}
    question = {"name": "asked", "namespace": namespace, "phase": "Progressing", "metadata": told}
    status, answer = ask(f"http://{address}:8080/promote", question)
    assert (status, answer.partition(":")[0]) == (403, "not enough evidence"), answer


def ask(url: str, question: dict[str, Any]) -> tuple[int, str]:
    """What Flagger would be answered; the node reaches Services by their addresses."""
    try:
        with urllib.request.urlopen(url, json.dumps(question).encode(), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
