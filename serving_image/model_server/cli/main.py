"""`model-server`: serve models from one settings file."""

import argparse
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from model_server import __version__
from model_server.errors import SettingsError

if TYPE_CHECKING:
    from model_server.settings import Settings

_BAD_SETTINGS = 2
_LEAST_STEP, _LONGEST_STEP = 0.1, 60.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code. Each command imports only what it needs."""
    options = _parser().parse_args(arguments)
    # pydantic reads the metadata of every installed package in search of plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # ONNX Runtime reports its use to its maker unless it is told not to, before it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with _no_collection():
        from model_server.settings import json_schema, load_settings
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
    if options.command == "ready":
        from model_server.cli.ready import ready

        return ready(settings)
    # numpy's own thread pool computes nothing here, and costs memory for each CPU of the host.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if options.command == "bench":
        return _bench(settings, options)
    with _no_collection():
        from model_server.process.serve import serve
    return serve(settings)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Most of a start is imports, and loading modules makes no garbage worth looking for."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="model-server", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve the models of the settings file until SIGTERM")
    check = commands.add_parser("check", help="load every model, run it, print its signature and latency")
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    bench = commands.add_parser("bench", help="put load on itself, plot throughput and latency by clients")
    bench.add_argument("--url", help="load this running server of this machine instead of starting one")
    bench.add_argument("--model", help="default: the first of the settings")
    bench.add_argument(
        "--seconds", type=_step_seconds, default=2.0, help="of each step, 0.1 to 60 (default: 2)"
    )
    bench.add_argument("--binary", action="store_true", help="send and ask for binary tensors, not JSON")
    bench.add_argument("--json", action="store_true", help="print the report as JSON")
    ready = commands.add_parser("ready", help="exit with 0 if the server of these settings is ready here")
    for command in (serve, check, bench, ready):
        command.add_argument(
            "--config", type=Path, help="settings file (YAML); default: only the environment"
        )
    commands.add_parser("schema", help="print the JSON Schema of the settings file")
    return parser


def _check(settings: "Settings", as_json: bool) -> int:
    from model_server.cli.check import check
    from model_server.telemetry.logs import set_up_logs

    set_up_logs(settings.log.model_copy(update={"level": "error"}))
    return check(settings, as_json)


def _bench(settings: "Settings", options: argparse.Namespace) -> int:
    from model_server.cli.bench import bench

    return bench(
        settings,
        options.config,
        url=options.url,
        model=options.model,
        seconds=options.seconds,
        binary=options.binary,
        as_json=options.json,
    )


def _step_seconds(text: str) -> float:
    seconds = float(text)
    if not _LEAST_STEP <= seconds <= _LONGEST_STEP:
        raise argparse.ArgumentTypeError(f"{text} is not between {_LEAST_STEP:g} and {_LONGEST_STEP:g}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
