"""`estate rollout`: begin, watch and steer rollouts from a shell, from CI or from a job in a cluster."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import LeaseLostError, RolloutError, TerminatedError

FAILED, TAKEN_OVER, INTERRUPTED, TERMINATED = 1, 4, 130, 143
"""Exit codes, beside those of the commands: 4 where another driver has taken over."""

_EPILOG = """\
a rollout, from begin to end:
  estate rollout start breast-cancer --to green      # drives in the foreground, a line for each step
  estate rollout status breast-cancer --watch        # in another shell
  estate rollout abort breast-cancer                 # back to 0 % at once
  estate rollout report breast-cancer                # afterwards

exit codes of start, resume:
  0 promoted   3 rolled back, or stopped as somebody else moved the weights   4 another driver has taken over
  130, 143 interrupted: nobody drives it now, resume goes on   1 anything else   2 wrong arguments
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        return run(parsed)
    except LeaseLostError as error:
        print(f"error: {error}", file=sys.stderr)
        return TAKEN_OVER
    except RolloutError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return _interrupted(parsed, INTERRUPTED)
    except TerminatedError:
        return _interrupted(parsed, TERMINATED)


def run(args: argparse.Namespace) -> int:
    """Do what the arguments say. What drives is loaded only where it is needed: status is to be quick."""
    module, _, name = args.run.rpartition(".")
    return int(getattr(importlib.import_module(f".{module}", __package__), name)(args))


def _interrupted(args: argparse.Namespace, code: int) -> int:
    print(
        f"interrupted; the weights stay where they are and nobody drives it: `estate rollout resume "
        f"{args.endpoint}` goes on, `estate rollout abort {args.endpoint}` rolls back",
        file=sys.stderr,
    )
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="estate", description="Operations on a running estate.")
    rollouts = parser.add_subparsers(required=True).add_parser(
        "rollout",
        help="move an endpoint's requests to another variant, by evidence",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = rollouts.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, module: str, help_: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=help_, description=help_)
        found.set_defaults(run=f"{module}.{name}")
        found.add_argument("endpoint", help="the endpoint's name")
        found.add_argument("--stack", "-s", default="local", help="the stack (default: local)")
        found.add_argument("--cwd", "-C", type=Path, default=Path(), help="the project's folder")
        found.add_argument("--journals", type=Path, default=_journals(), help=f"default: {_journals()}")
        return found

    def drives(found: argparse.ArgumentParser) -> argparse.ArgumentParser:
        found.add_argument("--prometheus", metavar="URL", help="read metrics from here, not from the gateway")
        found.add_argument("--clusters", metavar="REGEX", help="names of Envoy's clusters in Prometheus")
        found.add_argument("--json", action="store_true", help="each record on a line, for programs")
        found.add_argument("--tick", type=float, default=1.0, metavar="S", help="seconds between looks")
        found.add_argument("--webhook", metavar="URL", help="Slack-compatible (or ESTATE_WEBHOOK)")
        found.add_argument("--grafana", metavar="URL", help="annotate (or ESTATE_GRAFANA, GRAFANA_TOKEN)")
        return found

    start = drives(command("start", "driving", "begin a rollout and drive it to its end"))
    start.add_argument("--to", metavar="VARIANT", help="the candidate; the one without requests if left out")
    job = drives(command("run", "driving", "for jobs: go on with what is under way, or try what is new"))
    job.add_argument("--to", metavar="VARIANT", help="the candidate; the one without requests if left out")
    gate = commands.add_parser(
        "gate", help="answer Flagger whether it may go on", description="Answers Flagger, in a cluster."
    )
    gate.set_defaults(run="cluster.gate.run")
    gate.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    gate.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    status = command("status", "telling", "show where a rollout is")
    status.add_argument("--watch", "-w", action="store_true", help="keep showing it until it is over")
    status.add_argument("--json", action="store_true", help="for programs")
    command("pause", "telling", "stay at the present share; what is worse is still rolled back")
    drives(command("resume", "driving", "go on: after a pause, or in place of a driver that died"))
    promote = command("promote", "telling", "go on to the next step without waiting for evidence")
    promote.add_argument("--full", action="store_true", help="to the end, past all steps")
    drives(command("abort", "driving", "roll back; drives it itself where no driver is alive"))
    history = command("history", "telling", "list the endpoint's rollouts, or what happened in one")
    history.add_argument("--id", metavar="ROLLOUT", help="what happened in this one, or in the `last`")
    history.add_argument("--json", action="store_true", help="the records as they are, of all or of one")
    report = command("report", "telling", "write a report that is one HTML file")
    report.add_argument("--id", metavar="ROLLOUT", default="last", help="which rollout (default: the last)")
    report.add_argument(
        "--output", "-o", type=Path, default=Path("rollout.html"), help="default: %(default)s"
    )
    return parser


def _journals() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "serving-estate" / "rollouts"


if __name__ == "__main__":
    sys.exit(main())
