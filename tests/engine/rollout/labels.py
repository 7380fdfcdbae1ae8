"""Users who stay with their variant, and labels that come when their answers are long gone."""

import json
import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection

from tests.engine.local.load import Load
from tests.engine.rollout.driven import Driven

OUTCOME = {"file": "outcomes.jsonl", "assignments": "assignments.jsonl"}
USERS = [f"user-{number}" for number in range(400)]


def variants_of(url: str, users: Sequence[str], headers: Mapping[str, str]) -> dict[str, str]:
    """The variant that answers each user."""
    found = {}
    with closing(HTTPConnection(url.removeprefix("http://"), timeout=30)) as connection:
        for user in users:
            connection.request("GET", "/v2/health/ready", headers={**headers, "x-user": user})
            answer = connection.getresponse()
            answer.read()
            found[user] = str(answer.headers["x-variant"])
    return found


def decide_by_labels(
    driven: Driven, candidate: str, load: Load, url: str, headers: Mapping[str, str]
) -> None:
    """Run an a/b rollout that the labels decide for the candidate.

    Args:
        driven: has an a/b rollout by `OUTCOME` with users told apart by the header x-user.
        candidate: the variant.
        load: of `USERS`.
        url: where they ask.
        headers: with what.
    """
    for file in OUTCOME.values():
        (driven.stack.folder / file).unlink(missing_ok=True)
    with load:
        driver = driven.start(candidate, "observed")
        given = variants_of(url, USERS, headers)
        told = [json.dumps({"id": user, "variant": variant}) + "\n" for user, variant in given.items()]
        (driven.stack.folder / OUTCOME["assignments"]).write_text("".join(told))
        assert variants_of(url, USERS[:50], headers) == {user: given[user] for user in USERS[:50]}
        # The labels say of whom they are, not of which variant.
        values = {
            user: float(random.random() < (0.9 if one == candidate else 0.2)) for user, one in given.items()
        }
        known = [json.dumps({"id": user, "value": value}) + "\n" for user, value in values.items()]
        (driven.stack.folder / OUTCOME["file"]).write_text("".join(known))
        assert driver.wait(timeout=300) == 0
    load.report("a/b with labels that come later")
    checks = {check["name"]: check for check in driven.record("decided")["evidence"]["checks"]}
    assert checks["outcome"]["low"] > 0
    assert "effect size" in checks["outcome"]["text"]
    assert "of the users went to the candidate, 50 % were to" in checks["sample ratio"]["text"]
