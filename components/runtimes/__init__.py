"""How model servers are run, as data: one file a runtime.

A platform asks for a runtime by its name and gets the command, files, ports and probes of its server;
what to do with them (a process, a container) is the platform's affair.
"""

from collections.abc import Callable, Mapping

from .base import Fallback, Listen, Server
from .bundled import bundled

# The names are those of `components.spec.endpoint.Runtime`; a test holds the two together.
RUNTIMES: Mapping[str, Callable[[str, str, str, Listen, Fallback, bool], Server]] = {"bundled": bundled}

_LOOPBACK = Listen(tells_answers=True)
_NOTHING = Fallback()


def server(
    runtime: str,
    model: str,
    served_name: str,
    registry: str,
    listen: Listen = _LOOPBACK,
    fallback: Fallback = _NOTHING,
    counts_predictions: bool = False,
) -> Server:
    """The server that `runtime` runs for one model.

    Args:
        runtime: its name.
        model: the model's address.
        served_name: the name under which clients ask for it.
        registry: the MLflow tracking URI that `models:/` addresses are looked up at, or empty.
        listen: how it listens; on loopback where nothing is said.
        fallback: what answers when the model does not.
        counts_predictions: whether its metrics tell what is predicted.
    """
    return RUNTIMES[runtime](model, served_name, registry, listen, fallback, counts_predictions)


__all__ = ["RUNTIMES", "Fallback", "Listen", "Server", "server"]
