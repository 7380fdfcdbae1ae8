"""What people are told: by webhook, in Grafana, in the terminal, in the report."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from stacks.rollout.errors import RolloutError
from stacks.rollout.notify import Notifier, sentence
from stacks.rollout.report import report
from stacks.rollout.state import Phase, fold
from stacks.rollout.view import page
from tests.unit.rollout.test_sources import Server, server
from tests.unit.rollout.world import Behaviour, World

__all__ = ["server"]

ROLLOUT = {"analysis": {"errors": {"max_increase": 2.0}}, "steps": [{"percent": 10}, {"percent": 100}]}


@pytest.fixture
def bad(tmp_path: Path) -> World:
    world = World(tmp_path, behaviours={"green": Behaviour(fails=0.5)})
    world.start(**ROLLOUT)
    return world


def shown(world: World) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(page(world.journal, now=world.now))
    return console.export_text()


def test_a_webhook_and_grafana_are_told_what_matters(bad: World, server: str):
    notifier = Notifier(f"{server}/hook", server, "secret")
    state = bad.run()
    for record in bad.journal.last():
        notifier.told(record, state)
    notifier.close()
    texts = [sent[1]["text"] for sent in Server.asked if sent[0] == "/hook"]
    assert [text for text in texts if "rolled back: " in text and "requests failed" in text]
    assert not [text for text in texts if "moving" in text]
    annotations = [sent for sent in Server.asked if sent[0] == "/api/annotations"]
    assert annotations[0][1]["tags"] == ["rollout", "tiny", "moved"]
    assert {sent[2] for sent in annotations} == {"Bearer secret"}


def test_a_webhook_that_is_down_stops_nothing(bad: World, capsys: pytest.CaptureFixture[str]):
    notifier = Notifier("http://127.0.0.1:1/hook")
    state = bad.run()
    for record in bad.journal.last():
        notifier.told(record, state)
    notifier.close()
    assert capsys.readouterr().err.count("the webhook could not be told") == 1


def test_every_record_that_matters_has_words(bad: World):
    state = bad.run()
    silent = {record["event"] for record in bad.journal.last() if not sentence(record, state)}
    assert silent <= {"counting", "observed"}


def test_the_terminal_shows_the_evidence_and_that_nobody_drives(bad: World):
    bad.until(lambda state: state.phase is Phase.OBSERVE and state.totals != {})
    text = shown(bad)
    assert "NOBODY drives it" in text
    assert "green 10 %" in text
    bad.run()
    text = shown(bad)
    assert "rolled back: " in text
    assert "errors" in text


def test_the_report_stands_alone_and_shows_weights_and_intervals(bad: World):
    bad.run()
    text = report(bad.journal.last())
    assert text.count("<svg") >= 3
    assert "rolled back" in text
    assert "nan" not in text
    assert "http" not in text
    assert "<script" not in text


def test_a_report_of_nothing_is_refused():
    assert fold([]) is None
    with pytest.raises(RolloutError, match="begin one"):
        report([])
