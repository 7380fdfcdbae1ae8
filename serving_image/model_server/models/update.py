"""A change of what a model serves, led through all workers of the server.

Each new version is prepared everywhere; one that fails anywhere is left out everywhere, and versions that
serve already stand in for it. Then all workers flip.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from model_server.errors import LoadFailed, ServerError
from model_server.models.repository import ModelEntry
from model_server.models.source import Plan, Resolved
from model_server.telemetry.logs import log

Everywhere = Callable[[str, str, dict[str, Any]], Awaitable[None]]
"""Does an operation ("prepare", "apply", "refuse") on a model in every worker; raises the first error."""


async def update(entry: ModelEntry, wished: Plan, everywhere: Everywhere) -> None:
    """Bring a model to the plan. Raises LoadFailed if a version is refused; what can serve then serves."""
    name = entry.settings.name
    good: list[Resolved] = []
    failures: list[str] = []
    for resolved in wished.versions:
        detail = {"resolved": asdict(resolved), "stamp": wished.stamp, "as_default": not good}
        try:
            await everywhere("prepare", name, detail)
            good.append(resolved)
        except ServerError as error:
            failures.append(error.message)
    running = entry.plan()
    if failures and running:
        # Those that serve stand in, so that as many versions as were wished for stay reachable.
        wanted = {resolved.version for resolved in good}
        stand_ins = [resolved for resolved in running.versions if resolved.version not in wanted]
        good = [*good, *stand_ins][: len(wished.versions)]
    reason = "; ".join(failures)
    if not good:
        await everywhere("refuse", name, {"reason": reason})
        raise LoadFailed(reason)
    stamp = "" if failures else wished.stamp
    plan = entry.with_previous(Plan(tuple(good), stamp))
    await everywhere("apply", name, {**plan.as_json(), "reason": reason})
    if failures:
        log.error("a change was refused", extra={"model": name, "reason": reason})
        raise LoadFailed(reason)
    log.info("model serves", extra={"model": name, "versions": [resolved.version for resolved in good]})


def new_stamp() -> str:
    """For a plan that loads anew what may serve already."""
    return str(time.time_ns())
