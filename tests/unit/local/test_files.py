from pathlib import Path

import pytest

from components.local.machine import files


def test_write_replaces_a_file_in_one_step(tmp_path: Path):
    file = tmp_path / "new" / "file"
    files.write(file, "old")
    inode = file.stat().st_ino
    files.write(file, "new")
    assert file.read_text() == "new"
    assert file.stat().st_ino != inode, "Envoy's watch reacts to a rename"
    assert list(tmp_path.rglob("*")) == [file.parent, file]


def test_a_write_that_fails_leaves_the_old_text_and_nothing_beside_it(tmp_path: Path, monkeypatch):
    file = tmp_path / "file"
    files.write(file, "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        files.write(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_read_json_of_nothing_is_none(tmp_path: Path):
    assert files.read_json(tmp_path / "none") is None
    files.write_json(tmp_path / "some", {"a": [1]})
    assert files.read_json(tmp_path / "some") == {"a": [1]}


def test_tail_gives_the_last_lines_of_a_long_log(tmp_path: Path):
    log = tmp_path / "log"
    assert files.tail(log) == ""
    log.write_text("".join(f"line {number} {'x' * 100}\n" for number in range(5000)))
    assert [line.split()[1] for line in files.tail(log, lines=3).splitlines()] == ["4997", "4998", "4999"]


def test_tail_survives_bytes_that_are_no_text(tmp_path: Path):
    (tmp_path / "log").write_bytes(b"\xff\xfe broken\nlast\n")
    assert files.tail(tmp_path / "log").endswith("last")
