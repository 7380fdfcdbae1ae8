"""Runtimes: what is said of a server is what the server understands."""

import pytest
import yaml
from model_server.settings import Settings
from pydantic import ValidationError

from components.model_server import _RULES
from components.runtimes import RUNTIMES, Fallback, server
from components.spec import FallbackRung, Runtime


def test_every_runtime_of_the_specification_can_be_run_and_no_other() -> None:
    assert set(RUNTIMES) == {runtime.value for runtime in Runtime}


def test_the_bundled_server_understands_its_settings() -> None:
    for registry in ("", "http://127.0.0.1:5000"):
        spec = server("bundled", "models:/digits/1", "digits-1.b", registry)
        text = spec.files["settings.yaml"].replace("@http@", "8080").replace("@grpc@", "8081")
        assert "@" not in text
        settings = Settings.model_validate(yaml.safe_load(text))
        assert settings.server.host == "127.0.0.1"
        assert settings.server.http_port == 8080
        assert [(model.name, model.source) for model in settings.models] == [
            ("digits-1.b", "models:/digits/1")
        ]
        assert (settings.registry.tracking_uri or "") == registry


def test_rungs_of_the_specification_are_rungs_of_the_server() -> None:
    given = [
        {"cached_s": 60},
        {"previous_version": True},
        {"model": "models:/small/1"},
        {"model": "models:/smaller/2"},
        {"value": {"y": 0.5}},
    ]
    rungs = [FallbackRung(**one).model_dump(exclude_none=True) for one in given]
    spec = server("bundled", "models:/digits/1", "digits", "", fallback=Fallback(rungs, 0.8))
    text = spec.files["settings.yaml"].replace("@http@", "8080").replace("@grpc@", "8081")
    settings = Settings.model_validate(yaml.safe_load(text))
    model, small, smaller = settings.models
    assert settings.default_model == model.name == "digits"
    assert (small.source, smaller.source) == ("models:/small/1", "models:/smaller/2")
    names = [rung.name for rung in model.fallback.rungs]
    assert names == ["cached", "previous-version", "model", "model", "static"]
    assert [rung.model for rung in model.fallback.rungs[2:4]] == [small.name, smaller.name]
    assert model.fallback.rungs[0].cached_seconds == 60
    assert model.fallback.rungs[4].value == {"y": 0.5}
    assert model.timeout_seconds == 0.8, "the gateway waits no longer"
    assert model.cache is not None
    assert model.cache.ttl_seconds == 0, "a model that can answer does"
    assert not small.fallback.rungs
    assert settings.predictions is None


def test_the_bundled_server_can_be_told_to_count_its_predictions() -> None:
    spec = server("bundled", "models:/digits/1", "digits", "", counts_predictions=True)
    text = spec.files["settings.yaml"].replace("@http@", "8080").replace("@grpc@", "8081")
    assert Settings.model_validate(yaml.safe_load(text)).predictions is not None


def test_a_server_names_only_ports_that_it_gets() -> None:
    for runtime in RUNTIMES:
        spec = server(runtime, "/model.onnx", "name", "")
        text = " ".join([*spec.command, *spec.files.values()])
        assert {"http", "grpc"} & set(spec.ports)
        assert all(f"@{port}@" in text for port in spec.ports)
        assert spec.ready_path.startswith("/")
        assert spec.stop_seconds > 0


@pytest.mark.parametrize("name", ["a b", "", "-a", "a/b", "x" * 129, "ä"])
def test_a_name_that_the_server_would_refuse_is_refused_before_it_is_made(name: str) -> None:
    assert list(_RULES["served_name"](name))
    with pytest.raises(ValidationError):
        Settings.model_validate({"models": [{"name": name, "source": "/x"}]})
