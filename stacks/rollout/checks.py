"""What is asked of a candidate before it gets any requests of clients: golden requests, and agreement."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.spec.rollout import AgreementAnalysis

from .compared import tolerance
from .errors import RolloutError
from .evidence.pairs import Agreement, Tolerance, disagreement
from .evidence.proportions import EVEN, interval
from .placement import Variant, load_requests
from .web import fetch


def ask(address: str, endpoint: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """A server's answer to a request; `{"error": …}` where it fails."""
    body = {key: value for key, value in request.items() if key in ("inputs", "outputs", "parameters", "id")}
    try:
        status, answer = fetch(f"{address}/v2/models/{endpoint}/infer", body, timeout=60)
        found = json.loads(answer)
    except (OSError, ValueError) as error:
        return {"error": str(error)}
    return dict(found) if status == 200 else {"error": f"{status}: {found.get('error', '')}"}


def golden(file: Path, endpoint: str, candidate: Variant) -> str | None:
    """What is wrong with the answers of the candidate's replicas; None where all are right.

    Raises:
        RolloutError: the file cannot be read.
    """
    for number, request in enumerate(load_requests(file)):
        expected = {"outputs": request.get("outputs", [])}
        sent = {"inputs": request["inputs"]}
        allowed = Tolerance({output["name"]: request.get("rtol", 1e-4) for output in expected["outputs"]})
        for address in candidate.addresses:
            answer = ask(address, endpoint, sent)
            if "error" not in answer:
                asked = {output["name"] for output in expected["outputs"]}
                answer = {"outputs": [one for one in answer["outputs"] if one["name"] in asked]}
            why = disagreement(answer, expected, allowed)
            if why:
                detail = f": {answer['error']}" if "error" in answer else ""
                return f"golden request {number} at {address}: {why}{detail}"
    return None


def agreement(
    limits: AgreementAnalysis, file: Path, endpoint: str, candidate: Variant, stable: Variant, alpha: float
) -> tuple[bool, dict[str, Any]]:
    """Whether enough answers of the two agree, and the findings.

    Raises:
        RolloutError: the file cannot be read, or is empty.
    """
    requests = load_requests(file)
    if not requests:
        raise RolloutError(f"{file} is empty; it has to hold the requests that are compared")
    found = Agreement()
    allowed = tolerance(limits)
    for number, request in enumerate(requests):
        ours = ask(candidate.addresses[number % len(candidate.addresses)], endpoint, request)
        theirs = ask(stable.addresses[number % len(stable.addresses)], endpoint, request)
        found.add(disagreement(ours, theirs, allowed), str(request.get("slice", "")))
    low, high = interval(found.agreed, found.pairs, alpha, EVEN)
    share = 100 * found.agreed / found.pairs
    wanted = 99.0 if limits.min_percent is None else limits.min_percent
    return share >= wanted, {
        "pairs": found.pairs,
        "agreed": found.agreed,
        "low": round(100 * float(low), 3),
        "high": round(100 * float(high), 3),
        "wanted": wanted,
        "reasons": dict(found.reasons.most_common(10)),
        "slices": [list(part) for part in found.worst_slices()[:20]],
    }
