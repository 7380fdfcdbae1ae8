"""`pulumi` is killed with SIGKILL at random moments; the next run ends where it would have."""

import random

import pytest

from tests.engine.local import tiny
from tests.engine.local.kills import SEED, killed
from tests.engine.local.stack import LocalStack


@pytest.mark.parametrize(
    "cycle", [cycle if cycle == 2 else pytest.param(cycle, marks=pytest.mark.long) for cycle in range(4)]
)
def test_the_next_run_converges(new_stack: LocalStack, cycle: int):
    """Three kills a cycle: the first up, an edit, the destroy. Four cycles spread them over the runs."""
    stack, moments = new_stack, random.Random(SEED + cycle)

    def kill(*arguments: str, longest: float) -> None:
        # A stratum for each cycle: together they cover the run from its first moment to its last.
        killed(stack, *arguments, after=longest * (cycle + moments.random()) / 4, group=bool(cycle % 2))

    tiny.configure(stack, {"blue": 2, "green": 3}, {"blue": 100})
    kill("up", longest=4)
    stack.up()
    converged(stack, "2", replicas={"tiny-blue": 1, "tiny-green": 1, "gateway": 1})

    tiny.configure(stack, {"blue": 5, "red": 7}, {"blue": 100}, replicas=2)
    kill("up", longest=5.5)
    stack.up()
    converged(stack, "5", replicas={"tiny-blue": 2, "tiny-red": 2, "gateway": 1})

    kill("destroy", longest=3.5)
    stack.destroy()
    assert stack.leftovers() == []


def converged(stack: LocalStack, answer: str, replicas: dict[str, int]) -> None:
    """Right answers, and nothing beside what there has to be."""
    assert {tiny.ask(stack.url(tiny.ENDPOINT)) for _ in range(10)} == {answer}
    programs = sorted(name.split()[0] for name in stack.supervised())
    for name, count in replicas.items():
        assert sum(1 for program in programs if program.startswith(f"{name}.")) == count, programs
    assert len(programs) == sum(replicas.values()), programs
    homes = [path for path in stack.host().glob("groups/*/*/*") if path.is_dir()]
    assert sorted(f"{p.parts[-3]}.{p.parts[-2]}.{p.parts[-1]}" for p in homes) == programs
    # The admin page, the route, and two for each replica of a model server.
    assert len(stack.leases()) == 2 + 2 * (sum(replicas.values()) - 1), stack.leases()
    stack.up("--expect-no-changes")
