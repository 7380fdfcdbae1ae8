"""What can go wrong, what is said then, and that the next run goes well once it is mended."""

import time
from pathlib import Path

import pytest

from components.local.machine import ports
from tests.engine.local.stack import LocalStack
from tests.engine.local.tiny import ENDPOINT, ask, configure, model


def fails(stack: LocalStack) -> str:
    """What a run says that fails: within a minute, and not with our own innards."""
    began = time.monotonic()
    said = stack.run("up", check=False)
    took = time.monotonic() - began
    print(f"\n[error] after {took:.0f} s:\n{said[said.find('Diagnostics') :][:1500]}")
    assert took < 60
    assert "Traceback" not in said
    return said


def serve(stack: LocalStack, address: str, **config: object) -> None:
    variants = {"blue": {"model": address}, "green": {"model": model(stack.home, 3)}}
    stack.configure(endpoints={ENDPOINT: {"variants": variants, "traffic": {"blue": 100}}}, **config)


@pytest.mark.parametrize("fault", ["missing", "corrupt"])
def test_a_model_that_cannot_be_loaded(tiny: LocalStack, fault: str):
    file = tiny.home / f"{fault}.onnx"
    if fault == "corrupt":
        file.write_bytes(b"this is no model")
    serve(tiny, str(file))
    said = fails(tiny)
    assert file.name in said
    assert "the last lines of its log" in said
    assert ask(tiny.url(ENDPOINT)) == "2", "the old version goes on serving"

    file.write_bytes(Path(model(tiny.home, 7)).read_bytes())
    tiny.up()
    assert ask(tiny.url(ENDPOINT)) == "7"


def test_a_registry_that_cannot_be_reached(tiny: LocalStack):
    serve(tiny, "models:/digits/1", registry={"uri": "http://127.0.0.1:9"})
    said = fails(tiny)
    assert "127.0.0.1" in said
    assert "the last lines of its log" in said
    assert ask(tiny.url(ENDPOINT)) == "2"


def test_no_free_port(tiny: LocalStack):
    folder = tiny.state / "serving-estate" / "ports"
    taken = [folder / str(port) for port in range(ports.FIRST, ports.LAST)]
    taken = [file for file in taken if not file.exists()]
    for file in taken:
        file.write_text("somebody")
    configure(tiny, {"blue": 2, "green": 3}, {"blue": 100}, replicas=2)
    try:
        said = fails(tiny)
    finally:
        for file in taken:
            file.unlink()
    assert "no port from" in said
    assert "destroy one of them" in said
    assert ask(tiny.url(ENDPOINT)) == "2"
    tiny.up()
    assert len(tiny.outputs()["endpoints"][ENDPOINT]["variants"]["blue"]["addresses"]) == 2


def test_a_replica_that_cannot_be_added_does_not_stay(tiny: LocalStack):
    configure(tiny, {"blue": 2, "green": 3}, {"blue": 100}, replicas=2)
    file = Path(model(tiny.home, 2))
    moved = file.rename(file.with_suffix(".moved"))
    try:
        fails(tiny)
    finally:
        moved.rename(file)
    (blue,) = [name for name in tiny.supervised() if name.startswith(f"{ENDPOINT}-blue.")]
    assert blue.split()[0].endswith(".0")


def test_a_seed_that_fails(new_stack: LocalStack):
    mended = new_stack.folder / "mended"
    script = f"echo the disk is full; test -e {mended}"
    new_stack.configure(registry={"seed": {"command": ["sh", "-c", script]}})
    began = time.monotonic()
    said = new_stack.run("up", check=False)
    print(f"\n[error] after {time.monotonic() - began:.0f} s")  # most of it is MLflow's start
    assert "exited with code 1" in said
    assert "the disk is full" in said
    assert "Traceback" not in said

    mended.touch()
    new_stack.up()
    new_stack.destroy()
    assert new_stack.leftovers() == []
