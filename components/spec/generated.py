"""Writes files that are made from the code, or says which of them are behind it."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def main(files: Mapping[Path, Callable[[], Any]], arguments: list[str] | None = None) -> int:
    """Write the files; with `--check` only compare them. The exit code is 1 where one is behind.

    Args:
        files: what makes each file: text, or a value that is written as JSON.
        arguments: those of the command line where nothing is given.
    """
    parser = argparse.ArgumentParser(description="Write the files that are made from the code.")
    parser.add_argument("--check", action="store_true", help="only say which of them are behind the code")
    check = parser.parse_args(arguments).check
    behind = []
    for file, make in files.items():
        made = make()
        text = made if isinstance(made, str) else json.dumps(made, indent=2, ensure_ascii=False) + "\n"
        if (file.read_text(encoding="utf-8") if file.exists() else None) == text:
            continue
        behind.append(file)
        if not check:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        print(f"{file.name}: {'is not what the code says; run `make schema`' if check else 'written'}")
    return 1 if check and behind else 0
