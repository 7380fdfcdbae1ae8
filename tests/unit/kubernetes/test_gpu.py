"""The GPU stack."""

from typing import Any

import yaml


def config(objects: Any) -> Any:
    return yaml.safe_load(objects["ConfigMap", "gpu-config"]["data"]["config.yaml"])


def test_gpus_are_shared_in_turns_without_promising_more_for_more(render: Any) -> None:
    found = config(render(gpu={"time_slices": 4}))
    assert found["sharing"]["timeSlicing"]["resources"] == [{"name": "nvidia.com/gpu", "replicas": 4}]
    assert found["sharing"]["timeSlicing"]["failRequestsGreaterThanOne"] is True
    assert "sharing" not in config(render(gpu={}))


def test_slices_are_offered_as_the_stack_file_says(render: Any) -> None:
    assert config(render(gpu={"mig_strategy": "mixed"}))["flags"]["migStrategy"] == "mixed"


def test_parts_run_on_gpu_nodes_alone_and_apart_from_the_estate(render: Any) -> None:
    objects = render(gpu={"node_labels": {"pool": "gpu"}})
    sets = {key: manifest for key, manifest in objects.items() if key[0] == "DaemonSet"}
    assert {name for _, name in sets} == {"gpu-device-plugin", "gpu-discovery", "gpu-exporter"}
    for manifest in sets.values():
        assert manifest["metadata"]["namespace"] == "serving-test-gpu"
        spec = manifest["spec"]["template"]["spec"]
        required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert required["nodeSelectorTerms"] == [
            {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["gpu"]}]}
        ]
        assert {"key": "nvidia.com/gpu", "operator": "Exists"} in spec["tolerations"]
    assert (
        objects["Namespace", "serving-test-gpu"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "privileged"
    )


def test_parts_can_be_left_out(render: Any) -> None:
    objects = render(gpu={"exporter": False, "discovery": False})
    assert {name for kind, name in objects if kind == "DaemonSet"} == {"gpu-device-plugin"}


def test_images_and_runtime_can_be_ones_own(render: Any) -> None:
    objects = render(
        gpu={"plugin_image": "mine/plugin:1", "exporter_image": "mine/dcgm:1", "runtime_class": "nvidia"}
    )
    specs = [one["spec"]["template"]["spec"] for key, one in objects.items() if key[0] == "DaemonSet"]
    assert {spec["containers"][0]["image"] for spec in specs} == {"mine/plugin:1", "mine/dcgm:1"}
    assert {spec["runtimeClassName"] for spec in specs} == {"nvidia"}
    assert all(spec["containers"][0]["resources"]["limits"]["memory"] for spec in specs)


def test_the_operator_is_told_what_the_plugin_would_be(recorded: Any) -> None:
    settings = {"operator": True, "time_slices": 4, "mig_strategy": "mixed", "mig_layout": "all-1g.10gb"}
    asked = recorded(gpu={**settings, "exporter": False})
    (release,) = [args.inputs for args in asked.asked if args.typ == "kubernetes:helm.sh/v3:Release"]
    assert (release["chart"], release["namespace"]) == ("gpu-operator", "serving-test-gpu")
    values = release["values"]
    named = values["devicePlugin"]["config"]
    file = asked.objects["ConfigMap", named["name"]]["data"][named["default"]]
    assert yaml.safe_load(file)["sharing"]["timeSlicing"]["resources"][0]["replicas"] == 4
    assert values["mig"] == {"strategy": "mixed"}
    assert values["migManager"]["config"]["default"] == "all-1g.10gb"
    assert values["dcgmExporter"] == {"enabled": False}
    assert not [key for key in asked.objects if key[0] == "DaemonSet"], "the operator makes them"
