"""`estate rollout` at the shell: exit codes and help."""

import argparse
from pathlib import Path

import pytest

from stacks.rollout import cli
from stacks.rollout.errors import LeaseLostError, RolloutError, TerminatedError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RolloutError("no such thing; do that instead"), 1, "error: no such thing; do that instead"),
        (LeaseLostError("somebody has taken over"), 4, "somebody has taken over"),
        (KeyboardInterrupt(), 130, "`estate rollout resume tiny` goes on"),
        (TerminatedError(), 143, "`estate rollout abort tiny` rolls back"),
    ],
)
def test_how_it_ends_is_told_by_code_and_in_words(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
):
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(cli, "run", fail)
    assert cli.main(["rollout", "resume", "tiny"]) == code
    assert said in capsys.readouterr().err


COMMANDS = ["start", "run", "status", "pause", "resume", "promote", "abort", "history", "report"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_there_is(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str):
    assert cli.main(["rollout", command, "tiny", "--cwd", str(tmp_path)]) == 1
    assert "there is no Pulumi.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["rollout", *([command] if command else []), "--help"])
    text = capsys.readouterr().out
    assert "%%" not in text
