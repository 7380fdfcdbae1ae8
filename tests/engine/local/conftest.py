"""Stacks that tests share, because bringing one up is most of a test's time."""

from collections.abc import Iterator

import pytest
import yaml

from tests.engine.local import tiny as tiny_models
from tests.engine.local.stack import NAME, LocalStack
from toolchain.lock import ROOT


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
    tiny_models.configure(tiny_session, {"blue": 2, "green": 3}, {"blue": 100})
    tiny_session.up("--refresh")
    return tiny_session


@pytest.fixture(scope="session")
def full_session() -> Iterator[LocalStack]:
    """The stack that the project ships: a registry, two endpoints, four trained models."""
    stack = LocalStack()
    shipped = (ROOT / "stacks" / "Pulumi.local.yaml").read_text()
    (stack.folder / "config" / f"Pulumi.{NAME}.yaml").write_text(shipped)
    stack.init()
    try:
        stack.up()
        yield stack
        stack.destroy()
        assert stack.leftovers() == []
    finally:
        stack.remove()


@pytest.fixture
def full(full_session: LocalStack) -> LocalStack:
    """The stack that the project ships, as it ships it."""
    file = full_session.folder / "config" / f"Pulumi.{NAME}.yaml"
    shipped = yaml.safe_load((ROOT / "stacks" / "Pulumi.local.yaml").read_text())
    if yaml.safe_load(file.read_text())["config"] != shipped["config"]:
        full_session.configure(**{key.split(":")[1]: value for key, value in shipped["config"].items()})
        full_session.up()
    return full_session
