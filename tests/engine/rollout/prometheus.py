"""A real Prometheus, as a source of evidence."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.rollout.errors import SourceDownError
from stacks.rollout.sources.prometheus import ask

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not on PATH; Debian has a package of that name"
)


@contextmanager
def prometheus(jobs: Sequence[dict[str, Any]], folder: Path, ready: str, scraped_s: int = 1) -> Iterator[str]:
    """Its address, once a query has an answer.

    Args:
        jobs: what to scrape.
        folder: for its files.
        ready: the query.
        scraped_s: seconds between scrapes.
    """
    config = {"global": {"scrape_interval": f"{scraped_s}s"}, "scrape_configs": list(jobs)}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{probe.getsockname()[1]}"
    options = (f"--config.file={folder / 'prometheus.yaml'}", f"--web.listen-address={at}")
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            ["prometheus", *options, f"--storage.tsdb.path={folder / 'data'}"], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while not _answers(f"http://{at}", ready):
            assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
            time.sleep(0.2)
        yield f"http://{at}"
    finally:
        running.terminate()
        running.wait(20)


def _answers(url: str, query: str) -> bool:
    try:
        return bool(ask(url, query))
    except SourceDownError:
        return False
