"""The journal of an endpoint in its cluster, so that every shell and every pod has the same one.

It is a row of ConfigMaps with one entry a record. An entry is added by a patch that says which version of the
ConfigMap it is made for: whoever was slower reads again, so records have one order, as in a file. etcd writes
the whole object with each patch, so a ConfigMap is left for the next one long before it is as large as it may
be.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from ..errors import RolloutError
from ..journal import Journal, Record, who
from .api import Api, ConflictError, UnreachableError
from .lease import ClusterLease, living

FULL_BYTES = 64 << 10
LABEL = "serving-estate/journal"
_TRIES = 20


class ClusterJournal(Journal):
    """The journal of one endpoint."""

    def __init__(
        self, api: Api, namespace: str, endpoint: str, clock: Callable[[], float] = time.time
    ) -> None:
        """`namespace`: that of the estate."""
        self._api, self._namespace, self._endpoint, self._clock = api, namespace, endpoint, clock
        self._maps: list[list[Record]] = []
        """The records of each ConfigMap; all but the last are full and never change again."""
        self._full = False
        self._version = ""

    def lease(self) -> ClusterLease:
        """What makes its holder the only driver."""
        return ClusterLease(self._api, self._namespace, self._endpoint)

    def living(self) -> dict[str, Any] | None:
        """Who drives; None where nobody does."""
        return living(self._api, self._namespace, self._endpoint)

    def append(self, event: str, **details: Any) -> Record:
        """Write a record, and wait until the cluster has it.

        Raises:
            RolloutError: the cluster does not take it.
        """
        record = {"at": round(self._clock(), 3), "who": who(), "event": event, **details}
        line = json.dumps(record, allow_nan=False)
        doubtful, why = False, ""
        for attempt in range(_TRIES):
            try:
                if attempt or not self._maps:
                    self._read()
                if doubtful and self._has(line):
                    return record  # the answer was lost, not the record
                self._add(line)
            except ConflictError:
                continue
            except UnreachableError as error:
                doubtful, why = True, str(error)
                time.sleep(min(0.1 * 2**attempt, 3))
                continue
            return record
        raise RolloutError(
            f"the journal of endpoint {self._endpoint} could not be written: {why or 'others write at it'}; "
            f"once the cluster answers, `estate rollout resume {self._endpoint}` goes on"
        )

    def records(self) -> list[Record]:
        """All of them, the oldest first."""
        return self.since(0)[0]

    def since(self, offset: int) -> tuple[list[Record], int]:
        """The records after the first `offset`, and how many there are.

        Raises:
            RolloutError: the cluster does not answer.
        """
        try:
            self._read()
        except UnreachableError as error:
            raise RolloutError(
                f"the journal of endpoint {self._endpoint} cannot be read: {error}; once the cluster answers "
                f"`estate rollout resume {self._endpoint}` goes on"
            ) from None
        every = [record for records in self._maps for record in records]
        return every[offset:], len(every)

    def last(self) -> list[Record]:
        """Those of the last rollout."""
        records = self.records()
        begun = [index for index, record in enumerate(records) if record["event"] == "started"]
        return records[begun[-1] :] if begun else []

    def _path(self, number: int | None = None) -> str:
        name = "" if number is None else f"/{self._endpoint}-rollout-{number}"
        return f"/api/v1/namespaces/{self._namespace}/configmaps{name}"

    def _read(self) -> None:
        """Take what is new: of the last ConfigMap, and of those after it."""
        at = max(len(self._maps) - 1, 0)
        while (found := self._api.get(self._path(at))) is not None:
            self._take(at, found)
            if not self._full:
                return
            at += 1

    def _take(self, number: int, found: dict[str, Any]) -> None:
        data = found.get("data") or {}
        self._maps[number:] = [[json.loads(data[key]) for key in sorted(data)]]
        self._version = str(found["metadata"]["resourceVersion"])
        self._full = sum(map(len, data.values())) >= FULL_BYTES

    def _has(self, line: str) -> bool:
        return any(json.dumps(record) == line for records in self._maps[-2:] for record in records)

    def _add(self, line: str) -> None:
        number = len(self._maps)
        if not self._maps or self._full:
            self._take(number, self._api.create(self._path(), self._config_map(number, line)))
            return
        key = f"{len(self._maps[-1]):06d}"
        change = {"metadata": {"resourceVersion": self._version}, "data": {key: line}}
        self._take(number - 1, self._api.merge(self._path(number - 1), change))

    def _config_map(self, number: int, line: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{self._endpoint}-rollout-{number}",
                "labels": {"app.kubernetes.io/managed-by": "estate-rollout", LABEL: self._endpoint},
            },
            "data": {"000000": line},
        }
