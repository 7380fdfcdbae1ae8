"""Run by path, by `bin/pulumi-resource-kubernetes`: the engine gives its own address as the argument."""

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from tests.cluster.provider.serve import main

if __name__ == "__main__":
    main(sys.argv[1:])
