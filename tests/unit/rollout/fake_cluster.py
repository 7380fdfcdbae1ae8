"""Objects as an API server keeps them: with versions, and refusals of who comes late."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from stacks.rollout.cluster.api import Api, ConflictError, UnreachableError


class FakeApi(Api):
    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.texts: dict[str, str] = {}
        self.pods: list[dict[str, Any]] = []
        self.applied: list[tuple[str, str]] = []
        self.is_down = False
        self.loses_answers = 0
        self.before_write: Callable[[], None] = lambda: None
        self._version = 0

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        self._up()
        if path.endswith("/pods"):
            wanted = [one.split("=", 1) for one in query["labelSelector"].split(",")]
            labels = [pod["metadata"]["labels"] for pod in self.pods]
            return {
                "items": [
                    pod
                    for pod, has in zip(self.pods, labels, strict=True)
                    if all(has.get(key) == value for key, value in wanted)
                ]
            }
        return copy.deepcopy(self.objects.get(path))

    def text(self, path: str, timeout: float = 5) -> str:
        self._up()
        found = next((text for start, text in self.texts.items() if path.startswith(start)), None)
        if found is None:
            raise UnreachableError(path)
        return found

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self._begin()
        at = f"{path}/{body['metadata']['name']}"
        if at in self.objects:
            raise ConflictError(at)
        return self._keep(at, copy.deepcopy(dict(body)))

    def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self._begin()
        self._same(path, body)
        return self._keep(path, copy.deepcopy(dict(body)))

    def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self._begin()
        self._same(path, body)
        kept = copy.deepcopy(self.objects[path])
        kept["data"].update(body["data"])
        return self._keep(path, kept)

    def apply(self, path: str, body: Mapping[str, Any], manager: str) -> dict[str, Any]:
        self._begin()
        self.applied.append((path.split("/")[-2], manager))
        return self._keep(path, copy.deepcopy(dict(body)))

    def _up(self) -> None:
        if self.is_down:
            raise UnreachableError("no answer")

    def _begin(self) -> None:
        self._up()
        meanwhile, self.before_write = self.before_write, lambda: None
        meanwhile()

    def _same(self, path: str, body: Mapping[str, Any]) -> None:
        if body["metadata"].get("resourceVersion") != self.objects[path]["metadata"]["resourceVersion"]:
            raise ConflictError(path)

    def _keep(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        body["metadata"] = {**body["metadata"], "resourceVersion": str(self._version)}
        self.objects[path] = body
        if self.loses_answers:
            self.loses_answers -= 1
            raise UnreachableError("the answer was lost")
        return copy.deepcopy(body)


def pod(name: str, variant: str, *, restarts: int = 0, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"serving-estate/endpoint": "tiny", "serving-estate/variant": variant},
        },
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"restartCount": restarts}],
        },
    }
