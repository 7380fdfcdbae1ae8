"""What people are told: by webhook, in Grafana, in the terminal, in the report."""

import html
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from stacks.rollout.chart import Chart, ticks, times
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


def test_the_terminal_shows_the_candidate_among_many_variants(tmp_path: Path):
    world = World(tmp_path, behaviours={"green": Behaviour(fails=0.5)})
    others = ["amber", "brown", "coral", "denim", "ebony"]
    world.weights = world.stack = dict.fromkeys(others, 0) | world.weights
    world.models |= dict.fromkeys(others, "other")
    world.start(**ROLLOUT)
    world.until(lambda state: state.phase is Phase.OBSERVE)
    text = shown(world)
    assert "█ blue 90 %" in text
    assert "█ green 10 %" in text
    assert "amber" not in text


def test_the_report_stands_alone_and_shows_weights_and_intervals(bad: World):
    state = bad.run()
    text = report(bad.journal.last())
    assert text.count("<svg") >= 3
    assert "rolled back" in text
    assert "nan" not in text
    assert "http" not in text
    assert "<script" not in text
    for record in bad.journal.last():
        if told := sentence(record, state).removeprefix("tiny: "):
            assert html.escape(told) in text, "what happened in the same moment is told, too"


def test_what_was_seen_once_is_a_dot():
    runs = [[(1.0, 5.0)], [(2.0, 1.0), (3.0, 2.0)]]
    text = Chart("seen", 0, 4, (0, 10), [("estimate", "line", runs)]).html()
    assert text.count('<i class="line" style="left:25%;top:50%"></i>') == 1
    assert text.count('<path class="line"') == 1


def test_nothing_leads_from_one_step_of_the_evidence_to_the_next(tmp_path: Path):
    world = World(tmp_path)
    world.start(**ROLLOUT)
    world.run()
    text = report(world.journal.last())
    errors = text[text.index("<title>errors over time") :]
    errors = errors[: errors.index("</svg>")]
    assert errors.count('class="line"') == errors.count('class="band"') == 2
    assert errors.count('class="mark"') == 1


def test_texts_of_others_are_no_html(bad: World):
    bad.run()
    records = [{**record, "who": "<b>me</b>"} for record in bad.journal.last()]
    assert "<b>me</b>" not in report(records)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-1.7, 13, [0, 5, 10]),
        (0, 110, [0, 50, 100]),
        (49.65, 50.41, [49.8, 50, 50.2, 50.4]),
        (1e-4, 9e-4, [2e-4, 4e-4, 6e-4, 8e-4]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, expected: list[float]):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seconds", "last"), [(0.5, "0 s"), (67, "60 s"), (842, "10 min"), (5000, "60 min"), (1e6, "9 d")]
)
def test_times_are_few_and_in_units_that_fit(seconds: float, last: str):
    assert times(seconds)[0][1].startswith("0 ")
    assert times(seconds)[-1][1] == last
    assert len(times(seconds)) <= 6


def test_a_report_of_nothing_is_refused():
    assert fold([]) is None
    with pytest.raises(RolloutError, match="begin one"):
        report([])
