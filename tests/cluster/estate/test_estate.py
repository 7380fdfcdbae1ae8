"""From an empty cluster to right predictions through the gateway, and changes that must lose nothing."""

import http.client
import json
import time

import pytest

from tests.cluster.estate.conftest import RESOURCES, SOON_S, blocks
from tests.cluster.estate.stack import ClusterStack
from tests.cluster.estate.tiny import ENDPOINT, ask
from tests.cluster.estate.traffic import HOST, faults, load, until_answered


def test_the_first_up_ends_with_right_answers(stack: ClusterStack, gateway: str) -> None:
    endpoint = stack.outputs()["endpoints"][ENDPOINT]
    assert endpoint["url"] == f"http://{HOST}"
    assert {name: variant["weight"] for name, variant in endpoint["variants"].items()} == {
        "blue": 90,
        "green": 10,
    }
    assert ask(gateway, HOST) in [(2, "blue"), (3, "green")]


def test_a_second_up_changes_nothing(stack: ClusterStack, gateway: str) -> None:
    stack.up("--expect-no-changes")


def test_a_pin_leads_to_its_variant_and_a_wrong_one_to_nobody(stack: ClusterStack, gateway: str) -> None:
    for _ in range(10):
        assert ask(gateway, HOST, {"x-variant": "green"}) == (3, "green")
    with pytest.raises(AssertionError, match=r"404.*has no variant"):
        ask(gateway, HOST, {"x-variant": "gren"})


def test_weights_are_kept_to(stack: ClusterStack, gateway: str) -> None:
    asked = 1000
    link = http.client.HTTPConnection(gateway, timeout=30)
    green = sum(ask(gateway, HOST, connection=link)[0] == 3 for _ in range(asked))
    sigma = (asked * 0.1 * 0.9) ** 0.5
    assert abs(green - asked * 0.1) < 4 * sigma


def test_a_hand_edit_is_seen_by_refresh_and_mended_by_up(stack: ClusterStack, gateway: str) -> None:
    def weights() -> list[int]:
        return [
            one["weight"]
            for one in stack.kubectl("get", "httproute", ENDPOINT)["spec"]["rules"][0]["backendRefs"]
        ]

    edit = [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 77}]
    stack.run("patch", "httproute", ENDPOINT, "--type=json", f"--patch={json.dumps(edit)}")
    stack.run("delete", "networkpolicy", "tiny-green")
    said = stack.pulumi("refresh", "--yes", "--skip-preview", "--stack", "test")
    assert "~ 1 updated" in said.replace("    ", " "), said
    assert "- 1 deleted" in said.replace("    ", " "), said
    assert weights() == [90, 77]
    stack.up()
    assert weights() == [90, 10]
    stack.run("get", "networkpolicy", "tiny-green")


def test_moving_weights_changing_a_version_and_retiring_a_variant_lose_nothing(
    stack: ClusterStack, gateway: str
) -> None:
    with load(gateway) as answers:
        stack.configure(**blocks({"blue": 1, "green": 2}, {"blue": 0, "green": 100}))
        said = stack.up()
        assert "~ 2 updated" in said.replace("    ", " "), "weights touch the two routes alone:\n" + said
        until_answered(answers, 3)
        stack.configure(**blocks({"green": 3}, {"green": 100}))
        stack.up()
        until_answered(answers, 5)
    assert faults(answers) == []


def test_a_variant_that_comes_and_takes_over_loses_nothing(stack: ClusterStack, gateway: str) -> None:
    """Blue-green: the new colour is there before the switch, and has all requests after it."""
    with load(gateway) as answers:
        stack.configure(**blocks({"blue": 2, "green": 3}, {"blue": 100, "green": 0}))
        stack.up()
        until_answered(answers, 3)
    assert faults(answers) == []


def test_what_cannot_run_says_why_and_never_gets_traffic(stack: ClusterStack, gateway: str) -> None:
    """A model that is not there, a GPU that no node has, a slice of one that a quota forbids."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "slices"}}
    hard = {"requests.nvidia.com/mig-1g.5gb": "0"}
    stack.run("apply", "--filename=-", stdin=json.dumps({**quota, "spec": {"hard": hard}}))
    wanted = blocks({"blue": 2, "green": 99, "gpu": 1, "slice": 1}, {"blue": 0, "green": 100})
    variants = wanted["endpoints"][ENDPOINT]["variants"]
    variants["gpu"]["resources"] = {**RESOURCES, "gpus": 1}
    variants["slice"]["resources"] = {**RESOURCES, "mig": "1g.5gb"}
    stack.configure(**wanted)
    with load(gateway) as answers:
        began = time.monotonic()
        said = stack.up(check=False)
        took = time.monotonic() - began
    assert faults(answers) == []
    assert set(answers) == {(3, "blue")}
    for reason in ("version=99", "Insufficient nvidia.com/gpu", "exceeded quota: slices"):
        assert reason in said
    assert "Traceback" not in said
    assert took < SOON_S


def test_after_a_failed_update_the_next_one_converges(stack: ClusterStack, gateway: str) -> None:
    """What asks for a GPU goes to the node that has one, and nothing else does."""
    stack.fake_node("gpu", {"cpu": "8", "memory": "64Gi", "pods": "20", "nvidia.com/gpu": "2"})
    wanted = blocks({"blue": 2, "green": 1, "gpu": 1}, {"blue": 0, "green": 100})
    wanted["endpoints"][ENDPOINT]["variants"]["gpu"]["resources"] = {**RESOURCES, "gpus": 1}
    stack.configure(**wanted)
    with load(gateway) as answers:
        stack.up()
        until_answered(answers, 2)
    assert faults(answers) == []
    assert {pod["spec"]["nodeName"] for pod in stack.pods("tiny-gpu")} == {f"{stack.namespace}-gpu"}
    others = stack.pods("tiny-blue") + stack.pods("tiny-green")
    assert f"{stack.namespace}-gpu" not in {pod["spec"]["nodeName"] for pod in others}
