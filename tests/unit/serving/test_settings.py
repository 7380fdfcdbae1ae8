"""The settings file."""

from pathlib import Path

import pytest
from model_server.errors import SettingsError
from model_server.settings import json_schema, load_settings


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def test_the_documented_shape(tmp_path: Path) -> None:
    settings = load_settings(
        write(
            tmp_path,
            """
server: {host: 127.0.0.1, http_port: 8080, grpc_port: 8081, drain_seconds: 1.0, workers: 1}
registry: {tracking_uri: "http://127.0.0.1:5000"}
models:
  - {name: breast-cancer, source: "models:/breast-cancer/1"}
""",
        ),
        {},
    )
    assert settings.server.http_port == 8080
    assert settings.models[0].source == "models:/breast-cancer/1"


def test_everything_has_a_safe_default() -> None:
    assert load_settings(None, {}).server.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sever: {}", "sever: unknown setting; did you mean 'server'?"),
        ("server: {http_prot: 1}", "server.http_prot: unknown setting; did you mean 'http_port'?"),
        ("models: [{name: a, source: b, batching: {max_row: 1}}]", "did you mean 'max_rows'?"),
        ("server: {http_port: 70000}", "server.http_port: Input should be less than or equal to 65535"),
        ("models: [{name: a b, source: c}]", "models.0.name"),
        ("models: [{name: a, source: c}, {name: a, source: d}]", "the name 'a' is used more than once"),
        ("- a", "expected a mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_faults_name_the_field_and_the_mend(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as fault:
        load_settings(write(tmp_path, text), {})
    assert says in str(fault.value)


def test_the_environment_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "server: {http_port: 1, workers: 2}")
    environment = {
        "MODEL_SERVER__SERVER__HTTP_PORT": "2",
        "MODEL_SERVER__REGISTRY__TRACKING_URI": "http://h",
        "MODEL_SERVER__MODELS": "[{name: a, source: b}]",
        "OTHER": "x",
    }
    settings = load_settings(path, environment)
    assert (settings.server.http_port, settings.server.workers) == (2, 2)
    assert settings.registry.tracking_uri == "http://h"
    assert settings.models[0].name == "a"
    with pytest.raises(SettingsError, match="did you mean 'http_port'"):
        load_settings(path, {"MODEL_SERVER__SERVER__HTTP_PRT": "2"})


def test_every_field_is_documented() -> None:
    schema = json_schema()
    for section in (schema, *schema["$defs"].values()):
        assert section["description"]
        for name, field in section["properties"].items():
            assert "description" in field or "$ref" in field, name


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("fallback: {rungs: [{model: b, value: {y: 1}}]}", "exactly one of"),
        ("fallback: {rungs: [{value: {y: 1}}, {model: b}]}", "put it last"),
        ("fallback: {rungs: [{version: '1', previous_version: true}]}", "version belongs to model"),
        ("fallback: {rungs: [{cached_seconds: 5}]}", "needs the model's cache"),
        ("fallback: {rungs: [{model: a}]}", "cannot stand in for itself"),
        ("fallback: {rungs: [{model: c}]}", "no model 'c' is declared"),
        ("fallback: {rung: []}", "did you mean 'rungs'?"),
        ("cache: {ttl_second: 5}", "did you mean 'ttl_seconds'?"),
        ("budget: {inference_ms: 200}", "more than slo_ms"),
    ],
)
def test_what_stands_between_a_request_and_its_model_is_checked(
    tmp_path: Path, model: str, says: str
) -> None:
    text = f"models: [{{name: a, source: x, {model}}}, {{name: b, source: y}}]"
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, text), {})
    assert says in str(caught.value)
