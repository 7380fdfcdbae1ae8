"""What every command works with: the stack of an endpoint, and the journal of its rollouts."""

import argparse

from .errors import RolloutError
from .journal import Journal
from .placement import PulumiStack
from .state import Phase, State, fold


def opened(args: argparse.Namespace) -> tuple[PulumiStack, Journal]:
    """The endpoint that the arguments name, and its journal.

    Raises:
        RolloutError: there is no such stack, or no cluster to ask.
    """
    stack = PulumiStack(args.cwd, args.stack, args.endpoint, args.journals)
    if stack.platform == "kubernetes":
        from .cluster import opened as cluster

        return cluster.opened(args.cwd, args.stack, args.endpoint, args.journals)
    return stack, Journal(stack.home)


def current(journal: Journal) -> State:
    """The rollout that is under way.

    Raises:
        RolloutError: there is none.
    """
    state = fold(journal.last())
    if state is None or state.phase is Phase.OVER:
        raise RolloutError("no rollout is under way; begin one with `estate rollout start`")
    return state
