"""Properties between engine and provider: unknowns, whole numbers and secrets survive both ways."""

from pulumi.runtime import rpc

from components.provider.kind import UNKNOWN
from components.provider.wire import plain, secret_keys, struct

SECRET = {rpc._special_sig_key: rpc._special_secret_sig, "value": {"password": "x"}}


def test_values_survive() -> None:
    values = {"a": 1, "b": [1.5, UNKNOWN, {"c": None}], "d": True}
    assert plain(struct(values)) == values


def test_secrets_are_opened_for_the_provider_and_sealed_for_the_state() -> None:
    message = struct({"env": {"inside": [SECRET]}, "all": SECRET, "open": "x"})
    assert plain(message) == {"env": {"inside": [{"password": "x"}]}, "all": {"password": "x"}, "open": "x"}
    assert secret_keys(message) == {"env", "all"}
    answer = struct(plain(message), secret_keys(message))
    assert secret_keys(answer) == {"env", "all"}
    assert plain(answer) == plain(message)


def test_a_secret_that_is_not_an_output_is_nobodys_affair() -> None:
    assert plain(struct({"open": "x"}, {"gone"})) == {"open": "x"}
