"""Changes: in place, by replacement, by hand, by others; and objects that were there before."""

from collections.abc import Callable

import pytest

from tests.cluster.provider.stack import Stack

pytestmark = pytest.mark.long

APPS = "/apis/apps/v1"
# No pods: what is tried here is the object's life, not that of a workload.
DEPLOYMENT = """
k8s.apps.v1.Deployment(
    "web",
    metadata={{"namespace": NS, "name": "web", "labels": {labels!r}}},
    spec={{
        "replicas": 0,
        "selector": {{"matchLabels": {{"app": {app!r}}}}},
        "template": {{
            "metadata": {{"labels": {{"app": {app!r}}}}},
            "spec": {{
                "containers": [
                    {{"name": "web", "image": {image!r}, "resources": {{"limits": {{"cpu": {cpu!r}}}}}}}
                ]
            }},
        }},
    }},
    opts=Options(ignore_changes={ignored!r}),
)
"""


def deployment(
    labels: dict[str, str] | None = None,
    app: str = "web",
    image: str = "one",
    cpu: str = "1000m",
    ignored: list[str] | None = None,
) -> str:
    return DEPLOYMENT.format(labels=labels or {}, app=app, image=image, cpu=cpu, ignored=ignored or [])


def test_a_deployment_is_changed_in_place_and_replaced_where_that_is_impossible(stack: Stack) -> None:
    path = stack.path("deployments", "web", APPS)
    stack.program(deployment()).up()
    first = stack.api.get(path)

    assert stack.program(deployment(cpu="1")).up() == {}, "the same amount in other words is no change"

    assert stack.program(deployment(image="two", labels={"a": "b"})).up() == {"web": "update"}
    second = stack.api.get(path)
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert second["spec"]["template"]["spec"]["containers"][0]["image"] == "two"
    assert second["metadata"]["labels"] == {"a": "b"}

    # What is not said any more goes away.
    assert stack.program(deployment(image="two")).up() == {"web": "update"}
    assert "labels" not in stack.api.get(path)["metadata"]

    # The name is fixed, and the selector cannot be changed: the old one goes first.
    assert "-replace" in stack.program(deployment(image="two", app="other")).up()["web"]
    third = stack.api.get(path)
    assert third["metadata"]["uid"] != first["metadata"]["uid"]
    assert third["spec"]["selector"]["matchLabels"] == {"app": "other"}


SETTINGS = """
own = k8s.core.v1.ConfigMap("own", metadata={{"namespace": NS, "name": "own"}}, data={{"a": {value!r}}})
free = k8s.core.v1.ConfigMap("free", metadata={{"namespace": NS}}, data={{"a": {value!r}}})
pulumi.export("free", free.metadata.name)
"""


def test_settings_are_replaced_and_a_given_name_is_a_new_one(stack: Stack) -> None:
    stack.program(SETTINGS.format(value="1")).up()
    before = stack.outputs()["free"]
    changes = stack.program(SETTINGS.format(value="2")).up()
    assert changes["own"].startswith("delete-replaced")
    assert changes["free"].startswith("create-replacement")
    after = stack.outputs()["free"]
    assert after != before
    maps = stack.api.get(stack.path("configmaps"))["items"]
    found = {
        one["metadata"]["name"]: one["data"] for one in maps if one["metadata"]["name"] != "kube-root-ca.crt"
    }
    assert found == {"own": {"a": "2"}, after: {"a": "2"}}


def test_a_change_by_hand_is_seen_and_mended(stack: Stack) -> None:
    path = stack.path("deployments", "web", APPS)
    stack.program(deployment(labels={"a": "b"})).up()

    stack.edit(path, {"metadata": {"labels": {"a": "changed", "more": "theirs"}}})
    said = stack.fails("refresh", "--expect-no-changes")
    assert "changed" in stack.run("stack", "export")
    assert "error" in said
    assert stack.up() == {"web": "update"}
    # What we never said is left to whoever did.
    assert stack.api.get(path)["metadata"]["labels"] == {"a": "b", "more": "theirs"}
    assert stack.up("--refresh") == {}

    stack.api.request("DELETE", path)
    assert stack.up("--refresh") == {"web": "create"}
    stack.api.request("DELETE", path)
    stack.run("destroy")


def test_fields_of_others_are_a_conflict_or_left_to_them(stack: Stack) -> None:
    path = stack.path("deployments", "web", APPS)
    stack.program(deployment()).up()
    stack.edit(path, {"metadata": {"labels": {"a": "theirs"}}}, manager="another-controller")
    said = stack.program(deployment(labels={"a": "ours"})).fails("up")
    assert 'metadata.labels.a ("another-controller"' in said
    assert "ignore_changes" in said

    stack.program(deployment(ignored=["spec.replicas"])).up()
    stack.edit(path, {"spec": {"replicas": 7, "paused": True}}, manager="autoscaler")
    assert stack.program(deployment(image="two", ignored=["spec.replicas"])).up() == {"web": "update"}
    live = stack.api.get(path)
    assert live["spec"]["replicas"] == 7
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "two"
    stack.run("refresh")
    assert stack.up() == {}


EXISTING = """
k8s.core.v1.ConfigMap("there", metadata={"namespace": NS, "name": "there"}, data={"a": "1"})
"""


def test_what_is_there_already_is_read_imported_or_refused(new_stack: Callable[[], Stack]) -> None:
    stack = new_stack()
    there = {"metadata": {"name": "there", "labels": {"x": "y"}}, "data": {"a": "1"}}
    stack.api.request("POST", stack.path("configmaps"), None, there)

    said = stack.program(EXISTING).fails("up")
    assert f"ConfigMap {stack.namespace}/there exists already" in said
    assert "pulumi import" in said

    stack.program(
        """
        found = k8s.core.v1.ConfigMap.get("found", f"{NS}/there")
        pulumi.export("label", found.metadata.labels["x"])
        """
    ).up()
    assert stack.outputs()["label"] == "y"
    missing = stack.program('k8s.core.v1.ConfigMap.get("found", f"{NS}/missing")').fails("up")
    assert "missing" in missing

    importing = new_stack().program(
        """
        k8s.core.v1.ConfigMap(
            "there",
            metadata={"namespace": NS, "name": "there", "labels": {"x": "y"}},
            data={"a": "1"},
            opts=Options(import_=f"{NS}/there"),
        )
        """
    )
    assert importing.up() == {"there": "import"}
    assert importing.up() == {}


def test_a_preview_asks_the_api_server(stack: Stack) -> None:
    wrong = stack.program(deployment(app="not a label value")).fails("preview")
    assert "Invalid value" in wrong
    assert "not a label value" in wrong

    # A field that does not exist, in a namespace that the same run makes.
    unknown = stack.program(
        """
        ns = k8s.core.v1.Namespace("space", metadata={"name": f"{NS}-more"})
        k8s.apiextensions.CustomResource(
            "budget",
            api_version="policy/v1",
            kind="PodDisruptionBudget",
            metadata={"namespace": f"{NS}-more", "name": "budget"},
            spec={"minAvailabel": 1},
        )
        """
    ).fails("preview")
    assert 'unknown field "spec.minAvailabel"' in unknown

    shape = stack.program(
        """
        k8s.core.v1.ConfigMap("config", metadata={"namespace": NS, "labels": {"version": 1}}, data={"a": "1"})
        """
    ).fails("preview")
    assert "metadata.labels[version]" in shape
    assert 'write "1"' in shape


def test_a_cluster_that_does_not_answer_is_named(stack: Stack) -> None:
    (stack.folder / "nowhere").write_text(
        """
current-context: away
contexts: [{name: away, context: {cluster: away}}]
clusters: [{name: away, cluster: {server: "http://127.0.0.1:9"}}]
"""
    )
    stack.env["KUBECONFIG"] = str(stack.folder / "nowhere")
    stack.program(EXISTING)
    said = stack.fails("up")
    assert "no answer from http://127.0.0.1:9" in said
    assert f"context `away` of {stack.folder / 'nowhere'}" in said
    assert "Connection refused" in said

    stack.env["KUBECONFIG"] = "/nowhere/config"
    assert "no kubeconfig: /nowhere/config" in stack.fails("up")
