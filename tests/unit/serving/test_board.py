"""Readiness never overlooks a worker."""

import pytest
from model_server.process import board as board_module
from model_server.process.board import Board, WorkerState


def test_ready_needs_every_other_worker() -> None:
    board = Board(3)
    for worker in range(3):
        board.set_state(worker, WorkerState.READY)
    assert board.not_ready(besides=0) == []
    for state in set(WorkerState) - {WorkerState.READY}:
        board.set_state(2, state)
        assert len(board.not_ready(besides=0)) == 1
    assert board.not_ready(besides=2) == []


def test_a_worker_that_is_silent_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(2)
    board.set_state(1, WorkerState.READY)
    later = board_module.monotonic() + 60
    monkeypatch.setattr(board_module, "monotonic", lambda: later)
    assert board.not_ready(besides=0) == ["worker 1 does not respond"]
