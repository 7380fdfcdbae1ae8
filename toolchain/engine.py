"""Find or make a Pulumi engine, and print the folder to put on PATH.

In this order: a `pulumi` that is on PATH; one that an earlier run of this script left in the cache; the
official release; a build from source. Runs on a bare Python, before any environment exists.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

if __package__ in (None, ""):  # run by path, as the Makefile does
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from toolchain import official, source
from toolchain.cache import ToolError, locked, root, say

VERSION = "3.255.0"
MINIMUM = (3, 255, 0)
SOURCES = ("path", "official", "source")


def engine(allowed: tuple[str, ...] = SOURCES) -> Path:
    """Return the folder of an engine and its Python language host."""
    if "path" in allowed and (found := on_path()):
        return found
    if found := cached(allowed):
        return found
    with locked():
        if found := cached(allowed):  # made by the process that we waited for
            return found
        if "official" in allowed and not source.compiled(VERSION):
            try:
                return official.install(VERSION, official_folder())
            except ToolError as error:
                if "source" not in allowed:
                    raise
                say(f"{error}; building from source instead")
        if "source" in allowed:
            return source.install(VERSION)
    raise ToolError(
        f"no pulumi of at least {'.'.join(map(str, MINIMUM))} with its Python language host on PATH: "
        "install it from https://www.pulumi.com/docs/install/"
    )


def on_path() -> Path | None:
    """Return the folder of a user's own engine if it is new enough and whole."""
    binary = shutil.which("pulumi")
    if not binary or root() in Path(binary).resolve().parents:  # ours may be of another checkout's version
        return None
    told = subprocess.run(
        [binary, "version"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PULUMI_SKIP_UPDATE_CHECK": "1"},
        stdin=subprocess.DEVNULL,
    ).stdout.strip()
    beside = Path(binary).resolve().parent / "pulumi-language-python"
    if source.numbers(told) < MINIMUM:
        say(f"{binary} is {told or 'broken'}, older than v{'.'.join(map(str, MINIMUM))}: not used")
    elif not beside.exists() and not shutil.which("pulumi-language-python"):
        say(f"{binary} has no pulumi-language-python beside it: not used")
    else:
        return Path(binary).parent
    return None


def cached(allowed: tuple[str, ...]) -> Path | None:
    """Return the folder of an engine that an earlier run left."""
    if "official" in allowed and official_folder().exists():
        return official.bin_folder(official_folder())
    return source.built(VERSION) if "source" in allowed else None


def apart(home: Path, *first: Path, lean: bool = True) -> dict[str, str]:
    """Return this process's environment, in which `pulumi` keeps what it keeps below `home`.

    For tests and benchmarks, beside whose stacks a user's own may run. The backend is left to be said.

    Args:
        home: a folder.
        first: where programs are looked for before all others.
        lean: whether the engine does without what takes half of its processor time: a tidy memory, and a
            compressed log of its steps, which only a file where it wants a folder keeps it from.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    own = home / "pulumi"
    own.mkdir(parents=True, exist_ok=True)
    if lean:
        (own / "logs").touch()
        kept["GOGC"] = "400"
    path = [*map(str, first), str(engine()), str(Path(sys.prefix) / "bin"), os.environ["PATH"]]
    return kept | {
        "PATH": os.pathsep.join(path),
        "PULUMI_HOME": str(own),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "1",
    }


def official_folder() -> Path:
    """Return where the official release is kept."""
    return root() / f"pulumi-v{VERSION}-official-{source.tag()}"


def main() -> int:
    """Print the folder; say why not in a line or two."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is the first thing that runs on a bare host
        say(f"Python 3.11 or newer is needed, this is {platform.python_version()}")
        return 1
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--print-path", action="store_true", help="print the folder (the default)")
    parser.add_argument(
        "--source",
        choices=SOURCES,
        action="append",
        help="where it may come from; may be given more than once",
    )
    args = parser.parse_args()
    try:
        print(engine(tuple(args.source or SOURCES)))
    except ToolError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing half-made is left")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
