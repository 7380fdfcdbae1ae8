"""The package as a Pulumi plugin: its components, and the resources of the local platform."""

import sys
from pathlib import Path

# The engine starts this folder by its path, so the package that it is has to be made importable.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from components.plugin import main  # noqa: E402

if __name__ == "__main__":
    main()
