import socket
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from components.local.machine import ports


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_an_owner_keeps_its_port_and_shares_it_with_nobody():
    first = ports.lease("/a:blue/0/http")
    assert ports.lease("/a:blue/0/grpc") != first
    assert ports.lease("/a:blue/0/http") == first


def test_a_port_that_somebody_listens_on_is_passed_over():
    expected = ports.lease("/a:blue")
    ports.release("/a:blue")
    with socket.create_server(("127.0.0.1", expected)):
        assert ports.lease("/a:blue") != expected


@pytest.mark.parametrize("below", ["/a", "/a:blue", "/a:blue/0"])
def test_release_gives_back_what_lies_below_and_nothing_else(below: str):
    ports.lease("/a:blue/0/http")
    others = [ports.lease("/ab:blue/0/http"), ports.lease("/a:bluebird/0/http")]
    ports.release(below)
    owners = {file.read_text() for file in (ports.state_home() / "ports").iterdir()}
    assert owners == {"/ab:blue/0/http"} | ({"/a:bluebird/0/http"} if below != "/a" else set())
    assert len(others) == 2


def test_the_last_release_leaves_no_folder_even_after_a_killed_write(home: Path):
    ports.lease("/a:blue")
    (ports.state_home() / "ports" / ".18080.half").touch()
    ports.release("/a")
    assert not ports.state_home().exists()


def test_release_without_a_lease_is_no_error():
    ports.release("/nobody")


def test_a_full_range_is_told_with_its_mend(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ports, "LAST", ports.FIRST + 3)
    for number in range(3):
        ports.lease(f"/a:{number}")
    with pytest.raises(RuntimeError, match=r"no port from 18080 to 18082 is free.*destroy one of them"):
        ports.lease("/a:3")


def test_users_who_cannot_see_each_other_start_at_different_places(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    found = set()
    for user in "abc":
        monkeypatch.setenv("XDG_STATE_HOME", str(home / user))
        found.add(ports.lease("/a:blue"))
    assert len(found) == 3


def _lease(name: str) -> int:
    return ports.lease(name)


def test_leases_of_many_processes_at_once_are_all_different():
    with get_context("fork").Pool(4) as pool:
        found = pool.map(_lease, [f"/a:{number}" for number in range(40)])
    assert len(set(found)) == 40


def test_leases_of_many_threads_at_once_are_all_different():
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(_lease, [f"/a:{number}" for number in range(60)]))
    assert len(set(found)) == 60
