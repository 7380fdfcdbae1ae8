"""Run by path, by `bin/pulumi-resource-kubernetes`: the engine gives its own address as the argument."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


def skip_contents(*packages: str) -> None:
    """Let modules in these packages be imported without what the packages themselves import.

    Only the SDK's protocol messages are needed here; the rest of the SDK takes longer to load than all else
    together, and every pulumi command starts this process anew.
    """
    for name in packages:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            bare = ModuleType(name)
            bare.__path__ = list(spec.submodule_search_locations)
            sys.modules[name] = bare


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    skip_contents("pulumi", "pulumi.runtime")
    from tests.cluster.provider.serve import main

    main(sys.argv[1:])
