"""What the gateway is told: its shape is judged by Envoy itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.local.machine import envoy

ROUTE = {"pin_header": "x-variant", "timeout_seconds": 30, "retries": 3}
SHADOW = {"variant": "green", "percent": 0.5}


def route(weights, shadow=None, users=None, stand_in=None):
    return envoy.route_configuration(
        endpoint="digits", weights=weights, shadow=shadow, users=users, stand_in=stand_in, **ROUTE
    )


@pytest.mark.parametrize(
    ("weights", "shadow", "users", "stand_in"),
    [
        ({"blue": 100}, None, None, None),
        ({"blue": 90, "green": 10}, None, None, None),
        ({"blue": 100, "green": 0}, SHADOW, None, None),
        ({"blue": 50, "green": 50}, None, {"header": "x-user"}, None),
        ({"blue": 50, "green": 50}, None, {"cookie": "session"}, None),
        ({"blue": 90, "green": 10}, None, None, "blue"),
    ],
    ids=["one", "two", "shadow", "users-by-header", "users-by-cookie", "stand-in"],
)
def test_envoy_accepts_it(tmp_path: Path, weights, shadow, users, stand_in):
    """As static configuration, because Envoy's check does not read the dynamic files."""
    services = {name: str(tmp_path / name) for name in weights}
    listener = envoy.listener("digits", 18080, tmp_path / "routes.json")
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager.pop("rds")
    manager["route_config"] = {
        k: v for k, v in route(weights, shadow, users, stand_in).items() if k != "@type"
    }
    static = {
        "listeners": [{k: v for k, v in listener.items() if k != "@type"}],
        "clusters": [
            {k: v for k, v in cluster.items() if k != "@type"}
            for cluster in envoy.clusters("digits", services, stand_in)
        ],
    }
    for name in weights:
        for port in ("http", "grpc"):
            file = envoy.endpoint_file(Path(services[name]), port)
            file.write_text(json.dumps(envoy.endpoints(file.stem, [1, 2], [3, 4], {"variant": name})))
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps({"node": envoy.bootstrap("gateway")["node"], "static_resources": static}))
    binary = Path(sys.prefix) / "bin" / "envoy"
    done = subprocess.run(
        [binary, "--mode", "validate", "-c", config, "--disable-hot-restart"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_weights_are_read_back_from_the_routes():
    weights = {"blue": 90, "green": 10}
    assert envoy.weights(envoy.discovery([route(weights)])) == weights


def test_the_version_of_a_file_follows_its_contents():
    one, same, other = (envoy.discovery([route({"blue": n, "green": 100 - n})]) for n in (90, 90, 80))
    assert one["version_info"] == same["version_info"] != other["version_info"]


def test_a_pin_comes_before_the_shares_and_an_unknown_pin_between_them():
    routes = route({"blue": 90, "green": 10})["virtual_hosts"][0]["routes"]
    kinds = ["direct" if "direct_response" in r else "pin" if pins(r) else "share" for r in routes]
    assert kinds == ["pin"] * 4 + ["direct"] + ["share"] * 2


def pins(one) -> bool:
    return any(header["name"] == "x-variant" for header in one["match"].get("headers", []))


def test_a_shadow_is_mirrored_in_millionths():
    share = route({"blue": 100, "green": 0}, SHADOW)["virtual_hosts"][0]["routes"][-1]
    (mirror,) = share["route"]["request_mirror_policies"]
    assert mirror["runtime_fraction"]["default_value"] == {"numerator": 5000, "denominator": "MILLION"}
    assert mirror["cluster"] == "digits/green/http"
