"""What a destroyed stack left behind, anywhere in the cluster."""

import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

# Made and removed by the cluster in its own time, about objects that are gone.
_PASSING = {"events", "events.events.k8s.io", "leases.coordination.k8s.io"}
# Megabytes, and of no stack: an estate makes no definitions.
_LARGE = {"customresourcedefinitions.apiextensions.k8s.io"}

TRIES = 3


def leftovers(environ: Mapping[str, str], namespace: str) -> list[str]:
    """Every object, in a namespace or not, that has the stack's namespace anywhere in what it says."""

    def kubectl(*words: str) -> str:
        done = subprocess.run(
            ["kubectl", *words], env={**os.environ, **environ}, capture_output=True, text=True, check=True
        )
        return done.stdout

    def everything() -> list[dict[str, Any]]:
        kinds = set(kubectl("api-resources", "--verbs=list,get", "--output=name").split()) - _PASSING - _LARGE
        kinds = {kind for kind in kinds if not kind.endswith("metrics.k8s.io")}
        found = kubectl("get", ",".join(sorted(kinds)), "--all-namespaces", "--output=json")
        return list(json.loads(found)["items"])

    for _ in range(TRIES - 1):
        with suppress(subprocess.CalledProcessError):  # another test may take a kind away meanwhile
            found = everything()
            break
    else:
        found = everything()
    return [
        f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}"
        for one in found
        if namespace in json.dumps(one)
    ]
