"""`python -m toolchain.cluster.extra NAME`: build a program that is tried on a cluster; say where it is."""

import sys

from toolchain.cache import ToolError

from .binaries import EXTRAS, extra


def main(arguments: list[str]) -> int:
    """Build it; the exit code."""
    known = [name for module in EXTRAS for name in module.programs]
    if len(arguments) != 1 or arguments[0] not in known:
        print(f"say which: {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        print(extra(arguments[0]))
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
