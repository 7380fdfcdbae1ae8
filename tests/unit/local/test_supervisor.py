"""The supervisor with programs that are hard to write down, and with faults."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from components.local.machine.supervisor import Program, Supervisor

SAY = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"
SPOIL = "import time; held = b'x' * (60 << 20); time.sleep(600)"
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture(params=["plain", "a folder", "deep" * 30], ids=["plain", "odd", "deep"])
def supervisor(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Supervisor]:
    one = Supervisor(tmp_path / request.param)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Supervisor]:
    one = Supervisor(tmp_path / "state")
    one.start()
    yield one
    one.stop()


def program(supervisor: Supervisor, name: str, command: list[str], **more: object) -> Program:
    log = supervisor.folder / "logs" / f"{name}.log"
    return Program(
        **{"name": name, "command": command, "env": {}, "directory": log.parent, "log": log} | more
    )


def wait(true, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def said(one: Program) -> list:
    wait(lambda: one.log.exists() and one.log.read_text().endswith("\n"))
    return json.loads(one.log.read_text())


HARD = [
    "",
    "two words",
    "100%",
    "%(here)s",
    "a ; b",
    "a # b",
    '"quoted"',
    "it's",
    "\\",
    "$HOME",
    "ä",
    "a\nb",
    "=",
]


def test_every_text_reaches_the_program_as_it_is(supervisor: Supervisor):
    env = {f"HARD_{number}": text for number, text in enumerate(HARD)}
    one = program(supervisor, "say", [sys.executable, "-c", SAY, *HARD], env=env, keep_running=False)
    supervisor.run(one)
    arguments, environ, folder = said(one)
    assert arguments == HARD
    assert {name: environ.get(name) for name in env} == env
    assert folder == str(one.directory)


def test_what_pulumi_tells_its_programs_is_not_told_to_servers(plain: Supervisor, monkeypatch):
    plain.stop()
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "s3cret")
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    plain.start()
    one = program(plain, "say", [sys.executable, "-c", SAY], keep_running=False)
    plain.run(one)
    _, environ, _ = said(one)
    assert not [name for name in environ if name.startswith("PULUMI_")]
    assert "127.0.0.1" in environ["NO_PROXY"]
    assert Path(environ["TMPDIR"]).is_relative_to(plain.folder)


@pytest.mark.parametrize("name", ["a ;b", "100%", 'a"b'])
def test_a_path_that_cannot_be_written_down_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match="XDG_STATE_HOME"):
        Supervisor(tmp_path / name).start()


def test_a_missing_command_is_told_in_the_log(plain: Supervisor):
    one = program(plain, "none", ["no-such-command", "--flag"], keep_running=False)
    plain.run(one)
    wait(lambda: one.log.exists() and "cannot run `no-such-command --flag`" in one.log.read_text())


def test_a_changed_program_is_started_again_and_an_unchanged_one_is_not(plain: Supervisor):
    one = program(plain, "sleep", SLEEP)
    plain.run(one)
    first = plain.status("sleep")
    plain.run(one)
    assert plain.status("sleep").pid == first.pid
    plain.run(program(plain, "sleep", SLEEP, env={"A": "1"}))
    assert plain.status("sleep").pid != first.pid


def test_many_programs_are_stopped_at_once(plain: Supervisor):
    stubborn = (
        "import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(1), sys.exit())); "
        "print(1, flush=True)"
    )
    names = [f"slow{number}" for number in range(6)]
    programs = [
        program(plain, name, [sys.executable, "-c", f"{stubborn}; time.sleep(600)"]) for name in names
    ]
    for one in programs:
        plain.run(one)
    wait(lambda: all(one.log.exists() and one.log.read_text() for one in programs))
    began = time.monotonic()
    plain.remove(names)
    assert time.monotonic() - began < 5, "one after the other they take 6 s at least"
    assert [plain.status(name) for name in names] == [None] * 6
    assert list((plain.folder / "supervisor.d").iterdir()) == []


def test_the_child_of_a_killed_program_does_not_stay_beside_the_new_one(plain: Supervisor):
    parent = (
        "import subprocess, sys, time; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True); "
        "time.sleep(600)"
    )
    one = program(plain, "parent", [sys.executable, "-c", parent], has_children=True)
    plain.run(one)
    wait(lambda: one.log.exists() and len(one.log.read_text().split()) == 1)
    psutil.Process(plain.status("parent").pid).kill()
    wait(lambda: len(one.log.read_text().split()) == 2)
    first, second = (int(pid) for pid in one.log.read_text().split())
    wait(lambda: not alive(first))
    assert alive(second)


def test_a_program_over_its_memory_limit_is_killed_with_its_children_and_says_why(plain: Supervisor):
    hungry = (
        "import os, time; child = os.fork(); held = b'x' * (60 << 20) if child == 0 else 0; "
        "print(os.getpid(), flush=True); time.sleep(600)"
    )
    one = program(plain, "hungry", [sys.executable, "-c", hungry], memory_mib=50)
    plain.run(one)
    wait(lambda: one.log.exists() and "memory limit: hungry is killed" in one.log.read_text(), 60)
    wait(lambda: len([line for line in one.log.read_text().splitlines() if line.isdigit()]) >= 4, 60)
    pids = [int(line) for line in one.log.read_text().splitlines() if line.isdigit()]
    assert [alive(pid) for pid in pids[:2]] == [False, False], "it and its child"
    (line, *_) = [line for line in one.log.read_text().splitlines() if "memory limit" in line]
    assert "may hold 50 MiB" in line
    assert "`resources.memory_mib`" in line
    assert line in (plain.folder / "logs" / "memory.log").read_text()


def test_memory_that_children_share_counts_once(plain: Supervisor):
    """Four processes show 40 MiB each, and hold 40 MiB and a little together."""
    sharing = (
        "import os, time; held = b'x' * (40 << 20); [os.fork(), os.fork()]; "
        "os.write(1, b'%d\\n' % os.getpid()); time.sleep(600)"  # at once: `print` writes the end apart
    )
    one = program(plain, "sharing", [sys.executable, "-c", sharing], memory_mib=100)
    looked = program(plain, "hungry", [sys.executable, "-c", SPOIL], memory_mib=50)
    plain.run(one)
    wait(lambda: one.log.exists() and len(one.log.read_text().split()) == 4, 60)
    plain.run(looked)
    wait(lambda: looked.log.exists() and "memory limit" in looked.log.read_text(), 60)
    assert "memory limit" not in one.log.read_text()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_two_that_start_it_at_once_get_one(tmp_path: Path):
    from concurrent.futures import ThreadPoolExecutor

    one = Supervisor(tmp_path / "state")
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: Supervisor(one.folder).start(), range(4)))
        found = [p for p in psutil.process_iter() if one._is_ours(p)]
        assert len(found) == 1
    finally:
        one.stop()


def test_the_socket_does_not_move_with_the_temporary_folder(plain: Supervisor, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert Supervisor(plain.folder).alive()
    assert oct(plain.folder.stat().st_mode)[-3:] == "700"


def test_a_supervisor_that_was_killed_leaves_processes_that_are_ended(plain: Supervisor):
    plain.run(program(plain, "sleep", SLEEP))
    wait(lambda: plain.status("sleep").state == "RUNNING")
    stray = plain.status("sleep").pid
    os.kill(int((plain.folder / "supervisord.pid").read_text()), 9)
    wait(lambda: not plain.alive())
    assert alive(stray)
    plain.start()
    assert not alive(stray)
    wait(lambda: plain.status("sleep") and plain.status("sleep").state == "RUNNING")
