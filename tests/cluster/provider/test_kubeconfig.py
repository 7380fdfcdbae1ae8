from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.provider.errors import Unreachable
from tests.cluster.provider.kubeconfig import find, server_of


def config(name: str, **context: Any) -> dict[str, Any]:
    return {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **context}}],
        "clusters": [{"name": name, "cluster": {"server": f"http://{name}.invalid:6443/"}}],
        "users": [{"name": name, "user": {"token": f"token-of-{name}"}}],
    }


def test_the_text_of_a_kubeconfig_will_do() -> None:
    cluster = find(yaml.safe_dump(config("one", namespace="web")), environ={})
    assert (cluster.server, cluster.namespace) == ("http://one.invalid:6443", "web")
    assert cluster.headers() == {"Authorization": "Bearer token-of-one"}


def test_several_files_are_merged_and_the_first_one_wins(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(yaml.safe_dump(config(name)))
    environ = {"KUBECONFIG": f"{tmp_path / 'one'}:{tmp_path / 'missing'}:{tmp_path / 'two'}"}
    assert find(environ=environ).server == "http://one.invalid:6443"
    chosen = find(context="two", environ=environ)
    assert chosen.server == "http://two.invalid:6443"
    assert chosen.namespace == "default"


def test_files_beside_a_kubeconfig_are_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("fresh\n")
    content = config("one")
    content["users"] = [{"name": "one", "user": {"tokenFile": "token"}}]
    (tmp_path / "config").write_text(yaml.safe_dump(content))
    assert find(str(tmp_path / "config"), environ={}).headers() == {"Authorization": "Bearer fresh"}


def test_a_command_that_gives_credentials_is_run() -> None:
    content = config("one")
    answer = (
        '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"made"}}'
    )
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [answer]}
    content["users"] = [{"name": "one", "user": {"exec": {**command, "interactiveMode": "Never"}}}]
    assert find(yaml.safe_dump(content), environ={}).headers() == {"Authorization": "Bearer made"}


def test_a_command_that_gives_none_is_an_error_and_no_request() -> None:
    content = config("one")
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "false",
        "interactiveMode": "Never",
    }
    content["users"] = [{"name": "one", "user": {"exec": command}}]
    with pytest.raises(Unreachable, match="credentials of context `one`"):
        find(yaml.safe_dump(content), environ={})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("/nowhere/config", "/nowhere/config: No such file"),
        ("{a: [", "not YAML"),
        ("{}", "no current-context"),
        ("{current-context: x, contexts: [{name: y, context: {}}]}", "no context `x`; it has y"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(given: str, words: str) -> None:
    with pytest.raises(Unreachable) as fault:
        find(given, environ={})
    assert words in str(fault.value)


def test_another_server_is_another_cluster() -> None:
    one, two = (yaml.safe_dump(config(name)) for name in ("one", "two"))
    assert server_of(one) != server_of(two)
    assert server_of("/nowhere/config") is None
