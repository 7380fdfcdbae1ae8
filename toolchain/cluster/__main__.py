"""`make cluster` and `make cluster-down`: `python -m toolchain.cluster up|down|tell`."""

import argparse
import sys

from toolchain.cache import ToolError, say

from . import down, tell, up


def main() -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="toolchain.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    bring_up = commands.add_parser("up", help="make the cluster, or mend it")
    bring_up.add_argument(
        "--control-plane", action="store_true", help="no node: an API server to make objects in, nothing runs"
    )
    commands.add_parser("down", help="remove every trace of it")
    commands.add_parser("tell", help="say how it is, for whoever looks into tests that failed")
    args = parser.parse_args()
    try:
        if args.command == "up":
            up.up(control_plane_only=args.control_plane)
        elif args.command == "tell":
            tell.tell()
        else:
            down.down()
    except ToolError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run it again, it goes on where it was")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
