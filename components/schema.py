"""Everything that is made from the components' types: `python -m components.schema [--check]`.

The package schema is what the engine makes of it, so `pulumi` has to be on PATH.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .spec.generated import main
from .spec.reference import reference
from .spec.stack_schema import FILE, stack_schema

PACKAGE = Path(__file__).parent


def package_schema() -> Any:
    """What `pulumi package get-schema ./components` says.

    Raises:
        SystemExit: it says nothing, and why.
    """
    command = ["pulumi", "package", "get-schema", str(PACKAGE)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit('pulumi is not on PATH; run `eval "$(make -s env)"` first') from None
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed:\n{done.stderr}")
    return json.loads(done.stdout)


FILES = {
    FILE: stack_schema,
    PACKAGE.parent / "docs" / "reference.md": reference,
    PACKAGE / "schema.json": package_schema,
}

if __name__ == "__main__":
    sys.exit(main(FILES))
