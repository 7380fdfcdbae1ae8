"""What is killed comes back by itself; what is taken away by hand is found and made again."""

import json

import psutil
import pytest

from tests.engine.local.stack import LocalStack, get, wait_until
from tests.engine.local.tiny import ENDPOINT, ask, configure


def answered(stack: LocalStack) -> bool:
    try:
        return ask(url_of(stack)) == "2"
    except AssertionError:
        return False


def url_of(stack: LocalStack) -> str:
    (port,) = [port for port, owner in stack.leases().items() if owner.endswith(f"gateway:{ENDPOINT}")]
    return f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("name", ["tiny-blue.0", "gateway.0"])
def test_a_killed_process_comes_back_by_itself(tiny: LocalStack, name: str):
    process = tiny.process(name)
    process.kill()
    wait_until(lambda: not process.is_running(), "its end")
    wait_until(lambda: answered(tiny), f"an answer after {name} was killed")
    assert tiny.process(name).pid != process.pid
    tiny.run("refresh", "--expect-no-changes")


def test_the_gateway_remembers_its_routes_when_it_comes_back(tiny: LocalStack):
    configure(tiny, {"blue": 2, "green": 3}, {"green": 100})
    tiny.up()
    tiny.process("gateway.0").kill()
    wait_until(lambda: get(f"{url_of(tiny)}/v2/health/ready")[0] == 200, "the gateway")
    assert ask(url_of(tiny)) == "3"


@pytest.mark.parametrize(
    ("group", "resource"), [("tiny-blue", "ModelServer tiny-blue"), ("gateway", "Gateway gateway")]
)
def test_a_process_that_was_removed_is_missed_and_made_again(tiny: LocalStack, group: str, resource: str):
    before = tiny.outputs()
    (program,) = [name for name in tiny.supervised() if name.startswith(f"{group}.")]
    program = program.split()[0]
    tiny.supervisorctl("stop", program)
    tiny.supervisorctl("remove", program)

    tiny.run("refresh")
    tiny.up()
    assert tiny.changes() == {resource: "create"}
    assert tiny.outputs() == before, "the ports are the same"
    wait_until(lambda: answered(tiny), "an answer")


def test_weights_that_were_edited_by_hand_are_found_and_put_right(tiny: LocalStack):
    (file,) = tiny.host().glob("data/gateway/tiny.rds.json")
    text = file.read_text()
    routes = json.loads(text)
    for share in routes["resources"][0]["virtual_hosts"][0]["routes"][-2:]:  # gRPC, then HTTP
        for cluster, weight in zip(share["route"]["weighted_clusters"]["clusters"], (60, 40), strict=True):
            cluster["weight"] = weight
    edited = file.with_name("edited")
    edited.write_text(json.dumps(routes))
    edited.replace(file)

    tiny.run("refresh")
    tiny.up()
    assert tiny.changes() == {f"Route {ENDPOINT}": "update"}
    assert file.read_text() == text


def supervisor(stack: LocalStack) -> psutil.Process:
    return psutil.Process(int((stack.host() / "supervisord.pid").read_text()))


def test_a_killed_supervisor_is_replaced_and_its_strays_are_ended(tiny: LocalStack):
    before, strays = tiny.outputs(), [process.pid for process in tiny.processes()]
    supervisor(tiny).kill()
    tiny.run("refresh")
    tiny.up()
    assert tiny.changes()["Host estate-host"] == "update"
    assert tiny.outputs() == before, "the ports are the same"
    assert not set(strays) & {process.pid for process in tiny.processes()}
    wait_until(lambda: answered(tiny), "an answer")
    tiny.run("refresh", "--expect-no-changes")


@pytest.mark.parametrize(
    "refresh", [False, pytest.param(True, marks=pytest.mark.long)], ids=["at-once", "after-a-refresh"]
)
def test_destroy_after_the_supervisor_was_killed_leaves_nothing(new_stack: LocalStack, refresh: bool):
    configure(new_stack, {"blue": 2}, {"blue": 100})
    new_stack.up()
    supervisor(new_stack).kill()
    if refresh:
        new_stack.run("refresh")
    new_stack.destroy()
    assert new_stack.leftovers() == []
