"""The statistics of `estate rollout` as a gate for Flagger, which moves the weights when the gate lets it.

Flagger asks at its interval. `promote` is answered 200 when there is evidence that the new version is within
its limits at the present weight, `rollback` when there is evidence against it, or the step's time is over.
Everything else is 403: not now. A gate that was started again begins to count anew, so it rather waits.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

from components.spec import SpecError, validate
from components.spec.rollout import OnTimeout, Rollout

from ..errors import RolloutError, SourceDownError
from ..judge import Evidence, Verdict, Window, judge
from ..readings import Reading, Snapshot
from .api import Api, UnreachableError
from .scrape import PodScrape
from .source import ClusterSource

CANARY, PRIMARY = "canary", "primary"
_ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces"
_INSTANCE = "app.kubernetes.io/instance"
_LARGEST_BODY = 1 << 20


class WrongQuestionError(Exception):
    """Flagger was told to send something else than the gate understands; the message says what."""


@dataclass
class _Step:
    """What was counted at one weight of one revision."""

    endpoint: str
    checksum: str
    weight: int
    began: float
    source: ClusterSource
    base: Snapshot | None = None
    reference: Reading = field(default_factory=Reading)
    """What was counted of the primary in the step before: at 100 % it gets nothing."""
    now: Mapping[str, Reading] = field(default_factory=dict)


class Gate:
    """Decides for every Canary that asks."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._api, self._clock = api, clock
        self._steps: dict[tuple[str, str], _Step] = {}
        self._lock = threading.Lock()

    def may_promote(self, question: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether the canary may get more, and why.

        Raises:
            SourceDownError: the metrics cannot be read.
            WrongQuestionError: the question is none that can be answered.
        """
        with self._lock:
            rollout, step = self._step(question)
            if step is None:
                return True, "it has no requests yet"
            evidence = self._weigh(rollout, step)
            return evidence.verdict is Verdict.PROMOTE, f"{evidence.verdict.value}: {evidence.why}"

    def must_roll_back(self, question: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether the canary must not have any requests any more, and why.

        Raises:
            SourceDownError: the metrics cannot be read.
            WrongQuestionError: the question is none that can be answered.
        """
        with self._lock:
            rollout, step = self._step(question)
            if step is None:
                return False, "it has no requests yet"
            evidence = self._weigh(rollout, step)
            if evidence.verdict is Verdict.ROLL_BACK:
                return True, evidence.why
            limit = next((one.max_time_s for one in rollout.plan if one.percent == step.weight), None)
            holds = (rollout.on_timeout or OnTimeout.ROLL_BACK) is OnTimeout.HOLD
            spent = self._clock() - step.began
            if evidence.verdict is Verdict.WAIT and not holds and limit and spent >= limit:
                return True, f"after {spent:.0f} s there was not enough evidence: {evidence.why}"
            return False, f"{evidence.verdict.value}: {evidence.why}"

    def _step(self, question: Mapping[str, Any]) -> tuple[Rollout, _Step | None]:
        try:
            told = question["metadata"]
            namespace, endpoint, target = str(question["namespace"]), str(told["endpoint"]), told["target"]
            rollout = validate(Rollout, json.loads(told["rollout"]))
        except (KeyError, TypeError, ValueError, SpecError) as error:
            raise WrongQuestionError(
                f"expected what a Canary of an estate sends, with `endpoint`, `target` and `rollout` in its "
                f"metadata: {error!r}"
            ) from None
        weight = self._weight(namespace, endpoint)
        key, checksum = (namespace, endpoint), str(question.get("checksum", ""))
        before = self._steps.get(key)
        if not weight:
            self._steps.pop(key, None)
            return rollout, None
        if before is None or (before.checksum, before.weight) != (checksum, weight):
            pods = {CANARY: target, PRIMARY: f"{target}-primary"}
            scrape = PodScrape(
                self._api, namespace, None, lambda _endpoint, name: f"{_INSTANCE}={pods.get(name, name)}"
            )
            step = _Step(
                endpoint, checksum, weight, self._clock(), ClusterSource(scrape, lambda _endpoint: _nobody)
            )
            if before and before.checksum == checksum:
                step.reference = before.now.get(PRIMARY, Reading())
            self._steps[key] = step
        return rollout, self._steps[key]

    def _weight(self, namespace: str, endpoint: str) -> int:
        """The canary's share, as the route has it."""
        try:
            route = self._api.get(f"{_ROUTES}/{quote(namespace)}/httproutes/{quote(endpoint)}")
        except UnreachableError as error:
            raise SourceDownError(f"the route of endpoint {endpoint}: {error}") from None
        rules = ((route or {}).get("spec") or {}).get("rules") or []
        backends = [backend for rule in rules for backend in rule.get("backendRefs") or []]
        shares = [one.get("weight", 1) for one in backends if one["name"] == f"{endpoint}-{CANARY}"]
        return int(max(shares, default=0))

    def _weigh(self, rollout: Rollout, step: _Step) -> Evidence:
        snapshot = step.source.read(step.endpoint, [CANARY, PRIMARY])
        if step.base is None or len(step.base.edges) != len(snapshot.edges):
            step.base = snapshot
        step.now = {name: one.since(step.base.variants[name]) for name, one in snapshot.variants.items()}
        all_at_once = step.weight >= 100
        percents = [one.percent for one in rollout.plan]
        samples = next((one.min_samples for one in rollout.plan if one.percent == step.weight), None)
        window = Window(
            candidate=step.now[CANARY],
            stable=step.reference if all_at_once else step.now[PRIMARY],
            edges=snapshot.edges,
            share=None if all_at_once else step.weight / 100,
        )
        return judge(rollout.looks_at, window, rollout.alpha or 0.05, len(percents), samples or 100)


def _nobody(_cluster: str) -> str | None:
    """Flagger's routes have one cluster for both backends: the gateway cannot tell them apart."""
    return None


def run(args: argparse.Namespace) -> int:
    """Serve until it is ended: the command `estate rollout gate`.

    Raises:
        RolloutError: it cannot listen there.
    """
    try:
        server = serve(Gate(Api()), args.host, args.port)
    except OSError as error:
        raise RolloutError(f"cannot listen on {args.host}:{args.port}: {error}; try another --port") from None
    with server:
        server.serve_forever()
    return 0


def serve(gate: Gate, host: str, port: int) -> ThreadingHTTPServer:
    """A server that answers Flagger, to be run with `serve_forever`."""

    class Handler(BaseHTTPRequestHandler):
        """Answers one question."""

        def do_GET(self) -> None:
            """Whether it is there."""
            self._answer(200 if self.path == "/healthz" else 404, "POST to /promote or /rollback")

        def do_POST(self) -> None:
            """Whether Flagger may, or must."""
            asked = {"/promote": gate.may_promote, "/rollback": gate.must_roll_back}.get(self.path)
            if asked is None:
                self._answer(404, "POST to /promote or /rollback")
                return
            try:
                size = min(int(self.headers.get("content-length") or 0), _LARGEST_BODY)
                yes, why = asked(json.loads(self.rfile.read(size)))
            except (ValueError, WrongQuestionError) as error:
                self._answer(400, str(error))
            except SourceDownError as error:
                self._answer(503, f"nothing is decided without metrics: {error}")
            else:
                self._answer(200 if yes else 403, why)

        def log_message(self, format: str, *args: object) -> None:
            """What was answered is said in `_answer`."""

        def _answer(self, status: int, text: str) -> None:
            if self.path != "/healthz":
                print(f"{self.path} {status} {text}", flush=True)
            body = text.encode()
            self.send_response(status)
            self.send_header("content-type", "text/plain; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server
