"""`model-server bench`: what it prints is what the server did."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from model_server.cli.bench import plot
from running_server import Server

CONCURRENCIES = [1, 2, 4, 8, 16, 32, 64]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_server.cli.main", "bench", "--seconds", "0.2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def answered(server: Server, model: str) -> float:
    return server.metric("model_server_request_seconds_count", model=model)


def test_it_counts_what_the_server_answered(shared: Server) -> None:
    before = answered(shared, "scale")
    done = bench("--url", f"http://{shared.url}", "--model", "scale", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    steps = report["steps"]
    assert [step["clients"] for step in steps] == CONCURRENCIES
    assert all(step["errors"] == 0 and step["answers"] > 0 for step in steps)
    assert all(0 < step["p50_ms"] <= step["p90_ms"] <= step["p99_ms"] for step in steps)
    warm = answered(shared, "scale") - before - sum(step["answers"] for step in steps)
    assert 0 < warm < sum(step["answers"] for step in steps)
    assert "[7/7] 64 clients" in done.stderr


@pytest.mark.parametrize("form", [[], ["--binary"]], ids=["json", "binary"])
def test_it_makes_up_every_datatype(shared: Server, form: list[str]) -> None:
    done = bench("--url", shared.url, "--model", "echo", *form, "--json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_starts_and_stops_the_server_of_the_settings(models: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    declared = [{"name": "scale", "source": str(models / "scale.onnx")}]
    settings.write_text(yaml.safe_dump({"server": {"workers": 2}, "models": declared}))
    done = bench("--config", str(settings))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("scale at http://127.0.0.1:")
    assert "█" in done.stdout
    address = done.stdout.split()[2].rstrip(",").removeprefix("http://")
    assert bench("--url", address).returncode == 1, "the server should be gone"


def test_a_model_that_is_not_there_is_an_error(shared: Server) -> None:
    done = bench("--url", shared.url, "--model", "none")
    assert done.returncode == 1
    assert "'none'" in done.stderr


def test_failed_requests_are_not_hidden(models: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    declared = [{"name": "slow", "source": str(models / "slow.onnx"), "queue_size": 1}]
    settings.write_text(yaml.safe_dump({"models": declared}))
    done = bench("--config", str(settings), "--json")
    assert done.returncode == 1
    last = json.loads(done.stdout)["steps"][-1]
    assert last["errors"] > 0
    assert "status 429" in last["error"]


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"models": [{"name": "gone", "source": "/no/such/model"}]}))
    done = bench("--config", str(settings), "--json")
    assert done.returncode == 1
    assert "/no/such/model: no such file" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    "url", ["http://example.com", "http://10.0.0.1:80", "https://127.0.0.1", "127.0.0.1:x"]
)
def test_others_servers_are_refused(url: str) -> None:
    done = bench("--url", url)
    assert done.returncode == 1
    assert "--url" in done.stderr


def test_seconds_are_bounded() -> None:
    assert bench("--seconds", "3600").returncode == 2


def test_errors_are_shown_and_longest_bars_belong_to_the_highest_numbers() -> None:
    step = {"errors": 0, "error": None, "client_cpu": 0.5, "p50_ms": 1.0, "p90_ms": 2.0}
    steps = [
        {**step, "clients": 1, "rate": 50.0, "p99_ms": 4.0},
        {**step, "clients": 2, "rate": 100.0, "p99_ms": 8.0, "errors": 3, "error": "status 429: full"},
        {**step, "clients": 4, "rate": 0.0, "p50_ms": None, "p90_ms": None, "p99_ms": None},
    ]
    text = plot({"model": "m", "url": "u", "form": "json", "seconds": 1.0, "steps": steps})
    bars = [line.count("█") for line in text.splitlines() if line.lstrip()[:1] in ("1", "2", "4")]
    assert bars == [12, 24, 0, 12, 24, 0]
    assert "first error: status 429: full" in text
