"""From nothing to nothing: what `pulumi up` makes, `pulumi destroy` takes away."""

import socket
import stat

from tests.engine.local import tiny
from tests.engine.local.stack import LocalStack


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_up_again_edit_refresh_destroy(new_stack: LocalStack):
    stack = new_stack
    tiny.configure(stack, {"blue": 2, "green": 3}, {"blue": 100})
    stack.up()
    assert tiny.ask(stack.url(tiny.ENDPOINT)) == "2"
    stack.up("--expect-no-changes")
    assert stack.changes() == {}

    tiny.configure(stack, {"blue": 2, "green": 5}, {"green": 100}, replicas=2)
    stack.up()
    assert stack.changes() == {
        "ModelServer tiny-blue": "update",
        "ModelServer tiny-green": "update",
        "Route tiny": "update",
    }
    assert tiny.ask(stack.url(tiny.ENDPOINT)) == "5"
    stack.run("refresh", "--expect-no-changes")
    assert stat.S_IMODE(stack.host().stat().st_mode) == 0o700

    ports = list(stack.leases())
    assert len(ports) == 10, "the admin page, the route, and two for each of four replicas"
    stack.destroy()
    assert stack.leftovers() == []
    assert [port for port in ports if listens(port)] == []


def test_two_stacks_live_side_by_side(new_stack: LocalStack):
    one = new_stack
    other = LocalStack(one.home, "another").init()
    for stack, factor in ((one, 2), (other, 3)):
        tiny.configure(stack, {"blue": factor}, {"blue": 100})
    runs = [stack.start("up") for stack in (one, other)]
    assert [run.wait() for run in runs] == [0, 0], one.log.read_text() + other.log.read_text()

    assert len(one.leases()) == 8, "none is shared"
    assert tiny.ask(one.url(tiny.ENDPOINT)) == "2"
    one.destroy()
    assert tiny.ask(other.url(tiny.ENDPOINT)) == "3"
    other.destroy()
    assert one.leftovers() == []
