"""The provider's own settings: which cluster, which namespace, and what cannot be done here."""

from pathlib import Path

from tests.cluster.provider.servicer import _another_cluster
from tests.cluster.provider.settings import faults, settings
from tests.cluster.provider.stack import Stack


def test_what_the_program_says_comes_before_the_environment() -> None:
    environ = {"PULUMI_K8S_ENABLE_PATCH_FORCE": "true", "PULUMI_K8S_DELETE_UNREACHABLE": "true"}
    read = settings({"enablePatchForce": "false", "namespace": "web", "context": ""}, environ)
    assert (read.patch_force, read.delete_unreachable) == (False, True)
    assert (read.namespace, read.context, read.kubeconfig) == ("web", None, None)


def test_what_only_the_official_provider_does_is_refused() -> None:
    assert [field for field, _ in faults({"renderYamlToDirectory": "out"})] == ["renderYamlToDirectory"]
    assert [field for field, _ in faults({"enableServerSideApply": "false"})] == ["enableServerSideApply"]
    assert faults({"enableServerSideApply": "true", "kubeconfig": "x"}) == []


def test_objects_move_only_when_the_cluster_is_another_one() -> None:
    def config(server: str, name: str = "a") -> str:
        context = f"contexts: [{{name: {name}, context: {{cluster: {name}}}}}]"
        clusters = f'clusters: [{{name: {name}, cluster: {{server: "{server}"}}}}]'
        return f"current-context: {name}\n{context}\n{clusters}\n"

    here, renamed, there = config("http://here"), config("http://here", "b"), config("http://there")
    assert not _another_cluster("kubeconfig", {"kubeconfig": here}, {"kubeconfig": renamed})
    assert _another_cluster("kubeconfig", {"kubeconfig": here}, {"kubeconfig": there})
    assert not _another_cluster("namespace", {"kubeconfig": here}, {"kubeconfig": there})
    old, new = ({"kubeconfig": text, "clusterIdentifier": "same"} for text in (here, there))
    assert not _another_cluster("kubeconfig", old, new)


PROGRAM = """
from pathlib import Path
provider = k8s.Provider("cluster", kubeconfig={kubeconfig}, namespace=NS)
config = k8s.core.v1.ConfigMap("config", data={{"a": "1"}}, opts=Options(provider=provider))
pulumi.export("id", config.id)
pulumi.export("namespace", config.metadata.namespace)
"""


def test_a_provider_of_the_programs_own(stack: Stack, kubeconfig: str) -> None:
    stack.env["KUBECONFIG"] = "/nowhere/config"  # what counts is what the program says
    stack.program(PROGRAM.format(kubeconfig=f"Path({kubeconfig!r}).read_text()")).up()
    before = stack.outputs()
    assert before["namespace"] == stack.namespace

    # The same cluster by another way: nothing moves.
    copy = stack.folder / "copy"
    copy.write_text(Path(kubeconfig).read_text())
    assert stack.program(PROGRAM.format(kubeconfig=repr(str(copy)))).up() == {}
    assert stack.outputs() == before
