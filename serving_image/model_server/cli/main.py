"""`model-server`: serve models from one settings file."""

import argparse
import sys
from pathlib import Path

from model_server import __version__
from model_server.errors import SettingsError
from model_server.settings import json_schema, load_settings

_BAD_SETTINGS = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="model-server", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve the models of the settings file until SIGTERM")
    serve.add_argument(
        "--config", type=Path, help="settings file (YAML); without one, defaults and environment"
    )
    commands.add_parser("schema", help="print the JSON Schema of the settings file")
    options = parser.parse_args(arguments)
    if options.command == "schema":
        import orjson

        print(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode())
        return 0
    return _serve(options.config)


def _serve(config: Path | None) -> int:
    try:
        settings = load_settings(config)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return _BAD_SETTINGS
    from model_server.process.serve import serve

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
