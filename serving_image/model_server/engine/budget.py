"""The latency budget: where a request's time went, beside what each phase may take of the objective.

A client asks for it with an `X-Latency-Budget` header; the answer's header of the same name is

    network;dur=1.204;budget=5, features;dur=0.081;budget=10, queue;dur=0.020,
    inference;dur=31.500;budget=20;over, post-processing;dur=0.043;budget=5,
    total;dur=32.848;objective=100, reserve;dur=67.152;budget=60

in milliseconds, in the form of Server-Timing, on one line. `features` is making tensors of the body,
`post-processing` the body of the answer. `network` has a duration only if the client, or the gateway before
us, says when it sent the request: `X-Request-Start: t=<seconds, milliseconds or microseconds since 1970>`.
Waiting in the queue has no share of its own: it eats the reserve.
"""

from time import monotonic, time

from model_server.engine.call import Call
from model_server.settings import ModelSettings

HEADER = b"x-latency-budget"

_SENT = b"x-request-start"
_MILLISECONDS_SINCE_1970 = 1e11
_MICROSECONDS_SINCE_1970 = 1e14
_LONGEST_NETWORK_SECONDS = 3600.0


def budget_header(call: Call, settings: ModelSettings) -> bytes:
    """The value of the header, at the moment when the answer is sent."""
    now = monotonic()
    share = settings.budget.shares(settings.slo_ms)
    network = _network_seconds(call, now)
    phases: list[tuple[str, float | None, float | None]] = [("network", network, share.network_ms)]
    ends = (
        ("features", call.queued, share.features_ms),
        ("queue", call.started, None),
        ("inference", call.finished, share.inference_ms),
        ("post-processing", now, share.post_processing_ms),
    )
    begun = call.received
    for name, ended, budget in ends:
        # What a failed or a cached request never came to took no time.
        ended = max(begun, ended)
        phases.append((name, ended - begun, budget))
        begun = ended
    spent = (now - call.received + (network or 0.0)) * 1000
    parts = [_part(*phase) for phase in phases]
    parts.append(f"total;dur={spent:.3f};objective={settings.slo_ms:g}")
    parts.append(f"reserve;dur={settings.slo_ms - spent:.3f};budget={share.reserve_ms:g}")
    return ", ".join(parts).encode()


def _part(name: str, seconds: float | None, budget: float | None) -> str:
    took = "" if seconds is None else f";dur={seconds * 1000:.3f}"
    if budget is None:
        return f"{name}{took}"
    over = ";over" if seconds is not None and seconds * 1000 > budget else ""
    return f"{name}{took};budget={budget:g}{over}"


def _network_seconds(call: Call, now: float) -> float | None:
    """From the client's clock to ours; None if it does not say, or the clocks differ too much to believe."""
    if call.caller is None:
        return None
    try:
        sent = float(call.caller.headers.get(_SENT, b"").removeprefix(b"t="))
    except ValueError:
        return None
    if sent > _MICROSECONDS_SINCE_1970:
        sent /= 1e6
    elif sent > _MILLISECONDS_SINCE_1970:
        sent /= 1e3
    seconds = time() - (now - call.received) - sent
    return seconds if 0 <= seconds < _LONGEST_NETWORK_SECONDS else None
