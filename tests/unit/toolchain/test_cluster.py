"""The cluster's parts that need no cluster."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import psutil
import pytest
import yaml

from toolchain.cache import ToolError
from toolchain.cluster import addons, archive, binaries, down, host, images, layout, traces, up

# Of a host that has rules of its own and a node's.
SAVED = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:KUBE-FIREWALL - [0:0]
:CNI-FORWARD - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
-A FORWARD -j DOCKER
-A KUBE-FIREWALL -m comment --comment "block localnet" -j DROP
-A CNI-FORWARD -s 10.244.0.2/32 -j ACCEPT
COMMIT
*nat
:OUTPUT ACCEPT [0:0]
-A OUTPUT -j DOCKER
COMMIT
"""


def test_every_module_is_pinned_with_the_checksums_of_all_it_needs() -> None:
    for module in binaries.MODULE_LIST:
        folder = binaries.MODULES / module.name
        if "require" in (folder / "go.mod").read_text():
            assert binaries.version(module.name).startswith("v")
            assert (folder / "go.sum").stat().st_size > 1000


def test_a_program_is_built_anew_when_its_checksums_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = next(module for module in binaries.MODULE_LIST if module.name == "etcd")
    (tmp_path / "etcd").mkdir()
    for name in ("go.mod", "go.sum"):
        (tmp_path / "etcd" / name).write_bytes((binaries.MODULES / "etcd" / name).read_bytes())
    before = binaries.folder(module)
    monkeypatch.setattr(binaries, "MODULES", tmp_path)
    assert binaries.folder(module) == before
    (tmp_path / "etcd" / "go.sum").write_text("something else\n")
    assert binaries.folder(module) != before


def test_manifests_ask_only_for_images_that_are_made() -> None:
    made = {images.reference(name) for name in (*images.PROGRAMS, "busybox", "envoy")}
    for file in addons.MANIFESTS.glob("*.yaml"):
        for each in yaml.safe_load_all(addons.manifest(file.stem)):
            spec = each.get("spec", {}).get("template", {}).get("spec", {})
            for container in spec.get("containers", []):
                assert container["image"] in made


def test_the_gateways_probes_do_not_fail_on_one_late_answer() -> None:
    objects = list(yaml.safe_load_all(addons.manifest("envoy-gateway")))
    settings = next(each for each in objects if each["kind"] == "ConfigMap")
    proxy = yaml.safe_load(settings["data"]["envoy-gateway.yaml"])["envoyProxy"]["provider"]["kubernetes"]
    containers = proxy["envoyDeployment"]["patch"]["value"]["spec"]["template"]["spec"]["containers"]
    assert all(each["readinessProbe"]["failureThreshold"] > 1 for each in containers)
    # A container that is ended for it takes longer to come back than any busy node to answer.
    assert all(each["livenessProbe"]["failureThreshold"] > 3 for each in containers)


def test_the_same_files_make_the_same_image(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    for name in ("one.tar", "two.tar"):
        files = {"/bin/program": program, "/bin/other": program}
        archive.write(tmp_path / name, "example/program:dev", files, entrypoint=["/bin/program"])
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as image:
        manifest = json.load(image.extractfile("manifest.json") or pytest.fail("no manifest"))
        layer = image.extractfile("layer.tar") or pytest.fail("no layer")
        with tarfile.open(fileobj=layer) as content:
            assert content.getmember("bin").mode == 0o755
            assert content.getmember("bin/other").mode == 0o755
            assert content.getmember("bin/program").linkname == "/bin/other"
    assert manifest[0]["RepoTags"] == ["example/program:dev"]


def test_only_the_clusters_own_rules_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def run(command: str, *_: str, given_text: str | None = None, **more: str) -> str:
        if command == "iptables-save":
            return SAVED
        given.append(more["given"])
        return ""

    monkeypatch.setattr(down, "run", run)
    monkeypatch.setattr(traces, "run", run)
    monkeypatch.setattr(traces.shutil, "which", lambda name: name)
    down._rules("iptables")
    assert [text.splitlines() for text in given] == [
        [
            "*filter",
            "-D INPUT -j KUBE-FIREWALL",
            '-D FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD',
            "-F KUBE-FIREWALL",
            "-F CNI-FORWARD",
            "-X KUBE-FIREWALL",
            "-X CNI-FORWARD",
            "COMMIT",
        ]
    ]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of another checkout, which owns the cluster of this host."""
    state = tmp_path / "elsewhere" / ".cluster"
    state.mkdir(parents=True)
    (state / "before.json").write_text("{}")
    (tmp_path / "owner").write_text(f"{state}\n")
    monkeypatch.setattr(layout, "OWNER", tmp_path / "owner")
    return state


def test_a_second_checkout_is_told_whose_cluster_runs(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "processes", lambda _: iter([psutil.Process()]))
    monkeypatch.setattr(down, "STEPS", [("all of it", lambda _: pytest.fail("it removed what is used"))])
    checkout = re.escape(str(elsewhere.parent))
    with pytest.raises(ToolError, match=rf"of {checkout} runs.*KUBECONFIG=.*make -C {checkout} cluster-down"):
        down.make_room()


@pytest.mark.parametrize("is_gone", ["its processes", "its checkout"])
def test_what_nobody_can_use_any_more_makes_room(
    is_gone: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = [psutil.Process()]
    if is_gone == "its processes":
        running.clear()
    else:
        shutil.rmtree(elsewhere.parent)
    removed: list[Path] = []
    monkeypatch.setattr(traces, "processes", lambda _: iter(running))
    monkeypatch.setattr(traces, "left", lambda state: [] if removed == [state] else ["all of it"])
    monkeypatch.setattr(down, "STEPS", [("all of it", removed.append)])
    down.make_room()
    assert removed == [elsewhere]
    assert not layout.OWNER.exists()
    assert elsewhere.exists() == (is_gone == "its processes"), "files of others are theirs"


def test_who_is_not_root_is_told_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.os, "geteuid", lambda: 1000)
    with pytest.raises(ToolError, match=r"needs root.*sudo.*KUBECONFIG"):
        host.check()


def test_a_kubeconfig_that_names_a_dead_cluster_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*command: str, **_: float) -> str:
        if "--raw=/version" in command:
            raise ToolError("connection refused")
        return "https://127.0.0.1:1"

    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(up, "succeeds", lambda *_: True)
    monkeypatch.setattr(up, "run", run)
    with pytest.raises(ToolError, match=r"does not answer.*unset KUBECONFIG"):
        up._given()


def test_what_kubeconfig_names_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(up, "succeeds", lambda *_: True)
    monkeypatch.setattr(up, "run", lambda *_, **__: "https://127.0.0.1:1")
    monkeypatch.setattr(host, "check", lambda: pytest.fail("it looked at this host"))
    up.up()
    assert "https://127.0.0.1:1: that one is used" in capsys.readouterr().err
