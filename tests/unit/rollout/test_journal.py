"""The journal and the lease survive what happens to their writers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stacks.rollout.errors import LeaseLostError, RolloutError
from stacks.rollout.journal import Journal
from stacks.rollout.lease import Lease, living, read


def test_a_line_that_was_cut_off_is_not_a_record_and_is_overwritten(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append("started", number=1)
    with journal.file.open("a") as file:
        file.write('{"at": 1, "event": "obs')
    assert [record["event"] for record in journal.records()] == ["started"]
    journal.append("paused")
    assert [record["event"] for record in journal.records()] == ["started", "paused"]


def test_writers_do_not_disturb_each_other(tmp_path: Path):
    journals = [Journal(tmp_path) for _ in range(4)]

    def write(journal: Journal) -> None:
        for number in range(25):
            journal.append("observed", text="x" * 500, number=number)

    threads = [threading.Thread(target=write, args=(journal,)) for journal in journals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journals[0].records()) == 100


def test_a_reader_goes_on_where_it_was(tmp_path: Path):
    journal = Journal(tmp_path)
    assert journal.since(0) == ([], 0)
    journal.append("started")
    first, place = journal.since(0)
    journal.append("paused")
    second, _ = journal.since(place)
    assert [record["event"] for record in first + second] == ["started", "paused"]


def test_only_one_driver_has_the_lease_and_a_clean_end_leaves_no_trace_of_it(tmp_path: Path):
    with Lease(tmp_path) as one:
        one.check()
        assert living(tmp_path) is not None
        with pytest.raises(RolloutError, match="drives this rollout"), Lease(tmp_path):
            pass
    assert living(tmp_path) is None
    with Lease(tmp_path) as two:
        assert two.before is None
        assert two.epoch == one.epoch + 1
        with pytest.raises(LeaseLostError):
            one.check()


HOLDER = """
import sys, time
from pathlib import Path
from stacks.rollout.lease import Lease
with Lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_driver_is_seen_and_replaced_at_once(tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert holder.stdout
    holder.stdout.readline()
    held = living(tmp_path)
    assert held
    assert held["pid"] == holder.pid
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert living(tmp_path) is None
    with Lease(tmp_path) as lease:
        assert lease.before
        assert lease.before["pid"] == holder.pid


def test_a_driver_on_another_machine_is_believed_until_its_lease_is_over(tmp_path: Path):
    held = {"who": "x@far", "host": "far", "pid": 1, "until": time.time() + 60, "epoch": 7, "released": False}
    (tmp_path / "lease.json").write_text(json.dumps(held))
    with pytest.raises(RolloutError, match="x@far"), Lease(tmp_path):
        pass
    (tmp_path / "lease.json").write_text(json.dumps({**held, "until": time.time() - 1}))
    with Lease(tmp_path) as lease:
        assert lease.epoch == 8


def test_a_lease_is_renewed_for_as_long_as_its_holder_lives(tmp_path: Path):
    with Lease(tmp_path, seconds=0.15):
        first = (read(tmp_path) or {})["until"]
        deadline = time.monotonic() + 20
        while (read(tmp_path) or {"until": 0})["until"] <= first:
            assert time.monotonic() < deadline
