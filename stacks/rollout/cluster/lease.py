"""One driver for an endpoint, by a Lease of the cluster: it says who drives, and until when that is believed.

Its number of transitions is the holder's epoch: one who was taken for dead, and is not, finds another number
there and stops. A holder that cannot renew for as long as it is believed stops as well: by then somebody else
may have it.
"""

import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Self

from ..errors import LeaseLostError, RolloutError
from ..journal import who
from ..lease import Lease
from .api import Api, ConflictError, UnreachableError

SECONDS = 15
"""How long a holder that does not renew is believed to live."""

_API = "/apis/coordination.k8s.io/v1/namespaces"
_WHO = "serving-estate/driver"


class ClusterLease(Lease):
    """Held within a `with` block."""

    def __init__(self, api: Api, namespace: str, endpoint: str, seconds: int = SECONDS) -> None:
        """`namespace`: that of the estate."""
        self._api, self._namespace, self._endpoint, self._seconds = api, namespace, endpoint, seconds
        self._name = f"{endpoint}-rollout"
        self._path = f"{_API}/{namespace}/leases/{self._name}"
        self._identity = f"{who()}/{os.getpid()}/{time.time_ns():x}"
        self._renewed = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self.epoch = 0
        self.before: dict[str, Any] | None = None
        """Who held it before and did not give it back."""

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            RolloutError: somebody else has it, or the cluster does not answer.
        """
        try:
            found = self._api.get(self._path)
            held = _holder(found)
            # A container that was started again has the name and the number of the one before it.
            is_own = held and (held["host"], held["pid"]) == (socket.gethostname(), os.getpid())
            if held and not is_own and _lives(held):
                raise self._refused(held)
            self.before = held
            self.epoch = int((found or {"spec": {}})["spec"].get("leaseTransitions") or 0) + 1
            if found is None:
                self._api.create(f"{_API}/{self._namespace}/leases", self._document({}))
            else:
                self._api.replace(self._path, self._document(found["metadata"]))
        except ConflictError:
            raise self._refused(_holder(self._api.get(self._path))) from None
        except UnreachableError as error:
            raise RolloutError(f"nobody can say who drives this rollout: {error}") from None
        self._renewed = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._end.set()
        self._thread.join()
        with suppress(LeaseLostError, UnreachableError, ConflictError):
            found = self._own()
            self._api.replace(self._path, self._document(found["metadata"], held=False))

    def check(self) -> None:
        """Make sure that it is still ours.

        Raises:
            LeaseLostError: it is not, or nobody can say so for too long.
        """
        try:
            self._own()
        except UnreachableError as error:
            if time.monotonic() - self._renewed > self._seconds:
                raise LeaseLostError(
                    f"this driver has stopped, as it could not say for {self._seconds} s that it lives: "
                    f"{error}; once the cluster answers, `estate rollout resume {self._endpoint}` goes on"
                ) from None

    def _own(self) -> dict[str, Any]:
        found = self._api.get(self._path)
        if found is None or found["spec"].get("holderIdentity") != self._identity:
            held = _holder(found)
            raise LeaseLostError(f"{_shown(held)} has taken over; this driver has stopped")
        return found

    def _renew(self) -> None:
        while not self._end.wait(self._seconds / 5):
            with suppress(LeaseLostError, UnreachableError, ConflictError):
                found = self._own()
                self._api.replace(self._path, self._document(found["metadata"]))
                self._renewed = time.monotonic()

    def _document(self, metadata: Mapping[str, Any], held: bool = True) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        version = metadata.get("resourceVersion")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self._name,
                "labels": {"app.kubernetes.io/managed-by": "estate-rollout"},
                "annotations": {_WHO: f"{who()} {socket.gethostname()} {os.getpid()}"},
                **({"resourceVersion": version} if version else {}),
            },
            "spec": {
                "holderIdentity": self._identity if held else "",
                "leaseDurationSeconds": self._seconds,
                "leaseTransitions": self.epoch,
                "renewTime": now,
            },
        }

    @staticmethod
    def _refused(held: Mapping[str, Any] | None) -> RolloutError:
        return RolloutError(
            f"{_shown(held)} drives this rollout; `estate rollout status` shows it, and pause, promote and "
            "abort reach it from here"
        )


def living(api: Api, namespace: str, endpoint: str) -> dict[str, Any] | None:
    """Who drives and is believed to live; None where nobody does.

    Raises:
        RolloutError: the cluster does not answer.
    """
    try:
        held = _holder(api.get(f"{_API}/{namespace}/leases/{endpoint}-rollout"))
    except UnreachableError as error:
        raise RolloutError(f"nobody can say who drives this rollout: {error}") from None
    return held if held and _lives(held) else None


def _holder(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Who a Lease names, in the words of the lease on a disk; None where it was given back."""
    if not found or not found["spec"].get("holderIdentity"):
        return None
    spec = found["spec"]
    name, host, pid = (found["metadata"].get("annotations") or {}).get(_WHO, "somebody elsewhere 0").split()
    renewed = datetime.fromisoformat(str(spec.get("renewTime") or "1970-01-01T00:00:00+00:00"))
    return {
        "released": False,
        "who": name,
        "host": host,
        "pid": int(pid),
        "until": renewed.timestamp() + float(spec.get("leaseDurationSeconds") or SECONDS),
        "epoch": int(spec.get("leaseTransitions") or 0),
    }


def _lives(held: Mapping[str, Any]) -> bool:
    """Whether a holder has to be believed to live; one on this machine is looked for."""
    if held["host"] == socket.gethostname() and not _process(int(held["pid"])):
        return False
    return bool(held["until"] > time.time())


def _process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _shown(held: Mapping[str, Any] | None) -> str:
    return f"{held['who']} (process {held['pid']})" if held else "another driver"
