"""`model-server`: serve models from one settings file."""

import argparse
import os
import sys
from pathlib import Path

from model_server import __version__
from model_server.errors import SettingsError
from model_server.settings import Settings, json_schema, load_settings

_BAD_SETTINGS = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code. Each command imports only what it needs."""
    options = _parser().parse_args(arguments)
    if options.command == "schema":
        import orjson

        print(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode())
        return 0
    try:
        settings = load_settings(options.config)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return _BAD_SETTINGS
    if options.command == "check":
        return _check(settings, options.json)
    # numpy's own thread pool computes nothing here, and costs memory for each CPU of the host.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from model_server.process.serve import serve

    return serve(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="model-server", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve the models of the settings file until SIGTERM")
    check = commands.add_parser("check", help="load every model, run it, print its signature and latency")
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    for command in (serve, check):
        command.add_argument(
            "--config", type=Path, help="settings file (YAML); default: only the environment"
        )
    commands.add_parser("schema", help="print the JSON Schema of the settings file")
    return parser


def _check(settings: Settings, as_json: bool) -> int:
    from model_server.cli.check import check
    from model_server.telemetry.logs import set_up_logs

    set_up_logs(settings.log.model_copy(update={"level": "error"}))
    return check(settings, as_json)


if __name__ == "__main__":
    sys.exit(main())
