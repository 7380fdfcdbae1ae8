"""Stacks that tests share, because bringing one up is most of a test's time."""

from collections.abc import Iterator

import pytest

from tests.engine.local import tiny as tiny_models
from tests.engine.local.stack import LocalStack


@pytest.fixture
def new_stack() -> Iterator[LocalStack]:
    """A stack that nobody else has; whatever the test leaves is removed."""
    stack = LocalStack().init()
    yield stack
    stack.remove()


@pytest.fixture(scope="session")
def tiny_session() -> Iterator[LocalStack]:
    """The stack of tiny models, whose own end is a test too."""
    stack = LocalStack().init()
    try:
        tiny_models.configure(stack, {"blue": 2, "green": 3}, {"blue": 100})
        stack.up()
        yield stack
        stack.destroy()
        assert stack.leftovers() == []
    finally:
        stack.remove()


@pytest.fixture
def tiny(tiny_session: LocalStack) -> LocalStack:
    """The stack of tiny models as every test finds it: blue doubles and gets all, green triples."""
    if tiny_models.configure(tiny_session, {"blue": 2, "green": 3}, {"blue": 100}):
        tiny_session.up("--refresh")
    return tiny_session
