"""What the toolchain decides, without a network, an engine or a build."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from toolchain import cache, engine, lock, official, source, stack
from toolchain.host.worker import list_packages


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, and no pulumi on PATH."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path / "cache" / "serving-estate"


def fake_pulumi(folder: Path, version: str, *, host: bool = True) -> Path:
    """Put a `pulumi` that knows only its version into a folder, and the folder on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ["pulumi", *(["pulumi-language-python"] if host else [])]:
        (folder / name).write_text(f"#!/bin/sh\necho {version}\n")
        (folder / name).chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("go1.26.8", (1, 26, 8)),
        ("v3.255.0", (3, 255, 0)),
        ("v3.256.0-dev.1", (3, 256, 0)),
        ("devel +abc", ()),
        ("", ()),
    ],
)
def test_versions_are_read_from_what_tools_print(text: str, expected: tuple[int, ...]):
    assert source.numbers(text) == expected


def test_versions_are_compared_as_numbers():
    assert source.numbers("v3.1000.0") > source.numbers("v3.255.0") > source.numbers("v3.99.9")


def test_the_go_that_is_needed_is_read_from_the_module():
    pinned = (Path(source.HERE) / "pulumi" / "go.mod").read_text()
    assert source.wanted_go(pinned) == (1, 25, 11)


def test_the_pinned_module_is_the_pinned_version():
    pinned = (Path(source.HERE) / "pulumi" / "go.mod").read_text()
    required = re.search(r"pulumi/pulumi/pkg/v3 v(\S+)", pinned)
    assert required is not None
    assert required[1] == engine.VERSION
    assert source.numbers(engine.VERSION) >= engine.MINIMUM


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("Linux", "x86_64", "linux-x64"),
        ("Linux", "aarch64", "linux-arm64"),
        ("Darwin", "arm64", "darwin-arm64"),
    ],
)
def test_platforms_have_the_releases_names(system: str, machine: str, expected: str):
    assert official.release_platform(system, machine) == expected


def test_a_platform_without_a_release_is_told():
    with pytest.raises(cache.ToolError, match="no Pulumi release for Linux on riscv64"):
        official.release_platform("Linux", "riscv64")


def test_a_checksum_is_found_by_the_archives_whole_name():
    listed = "aa  pulumi-v1-linux-x64.tar.gz.sig\nbb  pulumi-v1-linux-x64.tar.gz\n"
    assert official.parse_checksums(listed, "pulumi-v1-linux-x64.tar.gz") == "bb"
    with pytest.raises(cache.ToolError, match="do not list"):
        official.parse_checksums(listed, "pulumi-v1-linux-arm64.tar.gz")


def test_a_new_enough_pulumi_on_path_comes_first(tmp_path: Path):
    folder = fake_pulumi(tmp_path / "bin", "v3.999.0")
    assert engine.engine() == folder


@pytest.mark.parametrize(
    ("version", "host", "why"),
    [
        ("v3.1.0", True, "older than v3.255.0"),
        ("", True, "broken"),
        ("v3.999.0", False, "no pulumi-language-python"),
    ],
)
def test_a_pulumi_that_will_not_do_is_told_and_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str, host: bool, why: str
):
    fake_pulumi(tmp_path / "bin", version, host=host)
    assert engine.on_path() is None
    assert why in capsys.readouterr().err


def test_our_own_cached_engine_on_path_is_not_taken_for_the_users(empty_cache: Path):
    fake_pulumi(empty_cache / "old" / "bin", "v3.999.0")
    assert engine.on_path() is None


def test_a_cached_engine_is_used_without_a_download(empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
    hosted = source.hosted_folder(engine.VERSION)
    hosted.mkdir(parents=True)
    monkeypatch.setattr(official, "install", lambda *_: pytest.fail("downloaded"))
    assert engine.engine() == hosted / "bin"


def test_an_official_release_that_cannot_be_reached_is_built_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr(official, "RELEASES", "http://127.0.0.1:9")
    monkeypatch.setattr(source, "install", lambda version: tmp_path / version)
    assert engine.engine() == tmp_path / engine.VERSION
    told = [line for line in capsys.readouterr().err.splitlines() if "cannot be fetched" in line]
    assert len(told) == 1
    assert "building from source instead" in told[0]


def test_a_changed_archive_is_refused_and_not_kept(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    name = official.release_platform("Linux", "x86_64")
    monkeypatch.setattr(official, "release_platform", lambda *_: name)
    monkeypatch.setattr(official, "RELEASES", tmp_path.as_uri())
    (tmp_path / f"pulumi-v{engine.VERSION}-{name}.tar.gz").write_bytes(b"not what was released")
    with pytest.raises(cache.ToolError, match="SHA-256"):
        engine.engine(("official",))
    assert [path.name for path in empty_cache.iterdir()] == ["lock"]


def test_what_was_not_finished_is_not_kept(empty_cache: Path):
    def interrupted() -> None:
        with cache.locked(), cache.staged(empty_cache / "tool") as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in empty_cache.iterdir()] == ["lock"]


def test_what_a_killed_run_left_is_swept_by_the_next(empty_cache: Path):
    (empty_cache / "unfinished-abc").mkdir(parents=True)
    with cache.locked():
        assert not (empty_cache / "unfinished-abc").exists()


def test_a_second_run_waits_for_the_first(empty_cache: Path):
    code = "from toolchain.cache import locked\nwith locked(): print('mine', flush=True)"
    with cache.locked():
        second = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        assert f"waiting for process {os.getpid()}" in second.stderr.readline()
        assert second.poll() is None
    said, _ = second.communicate(timeout=20)
    assert said == "mine\n"


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(cache.ToolError, match="set XDG_CACHE_HOME"), cache.locked():
        pass


def test_a_relative_cache_home_is_ignored_as_the_standard_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.root() == Path.home() / ".cache" / "serving-estate"


def test_every_lock_names_its_hashes_and_no_host():
    for each in lock.LOCKS:
        text = each.path.read_text()
        assert "://" not in text, each.name
        pinned = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
        assert pinned, each.name
        assert all(line.endswith("\\") for line in pinned), each.name


def test_the_local_lock_has_no_cloud_in_it():
    names = {line.split("==")[0] for line in (lock.REQUIREMENTS / "local.lock").read_text().splitlines()}
    assert "pulumi" in names
    assert not {name for name in names if name.startswith("pulumi-")} - {"pulumi-policy"}


def test_a_changed_dependency_is_drift(monkeypatch: pytest.MonkeyPatch):
    local = next(each for each in lock.LOCKS if each.name == "local")
    before = lock.inputs(local)
    changed = lock.projects(local)
    changed[0]["project"]["dependencies"].append("another>=1")
    monkeypatch.setattr(lock, "projects", lambda _: changed)
    assert lock.inputs(local) != before


def write_lock(folder: Path, pid: int, hostname: str | None = None) -> Path:
    """Write a lock as pulumi's file backend does."""
    path = folder / ".pulumi" / "locks" / "organization" / "estate" / "local" / "id.json"
    path.parent.mkdir(parents=True)
    holder = {"pid": pid, "username": "somebody", "timestamp": "2026-11-22T15:00:00Z"}
    path.write_text(json.dumps(holder | {"hostname": hostname or socket.gethostname()}))
    return path


def test_the_lock_of_a_dead_pulumi_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(stack, "STATE", tmp_path)
    dead = subprocess.Popen(["/bin/true"])
    dead.wait()
    path = write_lock(tmp_path, dead.pid)
    stack.clear_stale_locks("local")
    assert not path.exists()
    assert f"process {dead.pid} of somebody" in capsys.readouterr().err


def test_a_process_that_is_no_pulumi_does_not_hold_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stack, "STATE", tmp_path)
    path = write_lock(tmp_path, os.getpid())  # the number was used again
    stack.clear_stale_locks("local")
    assert not path.exists()


def test_the_lock_of_a_living_pulumi_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stack, "STATE", tmp_path)
    living = tmp_path / "pulumi"
    living.symlink_to("/bin/sleep")
    with subprocess.Popen([str(living), "60"]) as process:
        path = write_lock(tmp_path, process.pid)
        with pytest.raises(cache.ToolError, match="which is running"):
            stack.clear_stale_locks("local")
        process.kill()
    assert path.exists()


def test_another_machines_lock_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stack, "STATE", tmp_path)
    path = write_lock(tmp_path, 1, hostname="elsewhere")
    with pytest.raises(cache.ToolError, match="on elsewhere"):
        stack.clear_stale_locks("local")
    assert path.exists()


def test_the_host_scripts_are_executable():
    for name in ("pulumi-language-python", "pulumi-resource-pulumi-python"):
        assert (source.HERE / "host" / name).stat().st_mode & stat.S_IXUSR


def test_packages_are_listed_with_the_plugins_that_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def installed(name: str, *fields: str, record: str = "") -> None:
        folder = tmp_path / f"{name}-1.2.dist-info"
        folder.mkdir()
        head = "\n".join([f"Name: {name}", "Version: 1.2", *fields])
        (folder / "METADATA").write_text(f"{head}\n\nRequires-Dist: pulumi-never; it is a description\n")
        (folder / "RECORD").write_text(record)

    installed("ours", "Requires-Dist: pulumi_gcp>=9; extra == 'gcp'", "Requires-Dist: Acme.Cloud>=1")
    installed("pulumi_gcp")
    installed("pulumi_aws")
    installed("acme-cloud", record="acme/cloud.py,sha256=1,2\nacme/pulumi-plugin.json,sha256=1,2\n")
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "pulumi-plugin.json").write_text('{"resource": true, "name": "acme"}')
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert list_packages() == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert {one["version"] for one in listed.values()} == {"1.2"}
    assert {name: one["plugin"] for name, one in listed.items()} == {
        "ours": None,
        "pulumi-gcp": None,
        "pulumi-aws": {"resource": True},
        "acme-cloud": {"resource": True, "name": "acme"},
    }
