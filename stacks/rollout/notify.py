"""Word of a rollout for those who are not looking: a Slack-compatible webhook, annotations in Grafana."""

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from .journal import Record
from .state import State, positive
from .web import fetch

_SECONDS = 5.0


def sentence(record: Record, state: State) -> str:
    """A record in words; empty where it is not worth any."""
    name = f"{state.endpoint}: "
    event = record["event"]
    texts: dict[str, Callable[[], str]] = {
        "started": lambda: (
            f"{name}{state.rollout.kind.value} rollout {state.id} of {state.candidate} (now {state.stable}) "
            f"begun by {record['who']}"
        ),
        "checked": lambda: f"{name}checked before any requests: {record['why'] or 'all is well'}",
        "moving": lambda: f"{name}moving to {_shares(record['weights'])}",
        "moved": lambda: f"{name}weights are {_shares(record['weights'])} (took {record['took_s']} s)",
        "braked": lambda: (
            f"{name}the gateway sends {_shares(record['weights'])} from now on; the stack follows"
        ),
        "brake failed": lambda: f"{name}not at once, only through the engine: {record['error']}",
        "move failed": lambda: f"{name}the weights could not be moved: {record['error']}",
        "held": lambda: f"{name}held, the metrics cannot be read: {record['why']}",
        "back": lambda: f"{name}the metrics are back",
        "paused": lambda: f"{name}paused by {record['who']}",
        "resumed": lambda: f"{name}resumed by {record['who']}",
        "taken over": lambda: f"{name}{record['who']} has taken over from {record['from']}",
        "asked": lambda: f"{name}{record['who']} asked to {record['what']}",
        "decided": lambda: f"{name}{record['decision']}: {record['why']}",
        "finished": lambda: (
            f"{name}{record['result']}; the candidate answered {record['requests']} requests, "
            f"{record['failures']} of them failed; weights are {_shares(record['weights'])}"
        ),
    }
    return texts[event]() if event in texts else ""


def _shares(weights: dict[str, int]) -> str:
    return ", ".join(f"{name} {share} %" for name, share in positive(weights).items())


class Notifier:
    """Sends in a thread of its own, so that nobody waits for a chat; what fails is said once and dropped."""

    _LOUD = ("started", "decided", "finished", "held", "back", "braked", "move failed", "taken over")

    def __init__(self, webhook: str = "", grafana: str = "", token: str = "") -> None:
        """Remember where to send.

        Args:
            webhook: an address that takes `{"text": …}`, as Slack's do; or empty.
            grafana: the base URL of a Grafana; or empty.
            token: of a Grafana service account that may annotate.
        """
        self._webhook, self._grafana, self._token = webhook, grafana.rstrip("/"), token
        self._queue: SimpleQueue[tuple[str, str, dict[str, Any]] | None] = SimpleQueue()
        self._failed: set[str] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @staticmethod
    def from_environment(webhook: str | None, grafana: str | None) -> "Notifier":
        """With what the command line says, else what the environment does."""
        return Notifier(
            webhook or os.environ.get("ESTATE_WEBHOOK", ""),
            grafana or os.environ.get("ESTATE_GRAFANA", ""),
            os.environ.get("GRAFANA_TOKEN", ""),
        )

    def told(self, record: Record, state: State) -> None:
        """Send word of a record, where it is worth it."""
        text = sentence(record, state)
        if not text:
            return
        if self._webhook and record["event"] in self._LOUD:
            self._queue.put(("the webhook", self._webhook, {"text": text}))
        if self._grafana and record["event"] in ("moved", "decided", "finished"):
            tags = ["rollout", state.endpoint, record["event"]]
            note = {"time": round(record["at"] * 1000), "tags": tags, "text": text}
            self._queue.put(("Grafana", f"{self._grafana}/api/annotations", note))

    def close(self) -> None:
        """Send what is left, for some seconds at most."""
        self._queue.put(None)
        self._thread.join(timeout=_SECONDS)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            name, url, body = item
            headers = {"authorization": f"Bearer {self._token}"} if name == "Grafana" and self._token else {}
            try:
                status, _ = fetch(url, body, headers, timeout=_SECONDS)
                problem = "" if status < 400 else f"it answered {status}"
            except OSError as error:
                problem = str(error)
            if problem and name not in self._failed:
                self._failed.add(name)
                print(f"warning: {name} could not be told: {problem}", file=sys.stderr)
