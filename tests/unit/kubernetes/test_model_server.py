"""The servers of one model, as the cluster is asked for them."""

from typing import Any

import pulumi
import pytest
import yaml
from model_server.settings import Settings

from components import ModelServer
from components.arguments import ArgumentsError
from tests.unit.kubernetes.conftest import run

BLUE, NAME = ("Deployment", "digits-blue"), "digits-blue"


def endpoint(**more: Any) -> dict[str, Any]:
    return {"digits": {"variants": {"blue": {"model": "models:/digits/1"}}, **more}}


def pod(objects: Any, name: str = NAME) -> dict[str, Any]:
    return dict(objects["Deployment", name]["spec"]["template"]["spec"])


def container(objects: Any, name: str = NAME) -> dict[str, Any]:
    return dict(pod(objects, name)["containers"][0])


def settings_of(objects: Any, name: str = NAME) -> str:
    volumes = {volume["name"]: volume for volume in pod(objects, name)["volumes"]}
    return str(volumes["settings"]["configMap"]["name"])


def test_the_server_understands_its_settings_and_finds_them(render: Any) -> None:
    objects = render()
    files = objects["ConfigMap", settings_of(objects)]["data"]
    settings = Settings.model_validate(yaml.safe_load(files["settings.yaml"]))
    assert settings.server.host == "0.0.0.0"
    ports = {port["name"]: port["containerPort"] for port in container(objects)["ports"]}
    assert ports == {"http": settings.server.http_port, "grpc": settings.server.grpc_port}
    assert [(model.name, model.source) for model in settings.models] == [("digits", "models:/digits/1")]
    assert settings.registry.tracking_uri == "http://registry.serving-test.svc:5000"
    mounts = {mount["name"]: mount["mountPath"] for mount in container(objects)["volumeMounts"]}
    assert mounts["settings"] == "/etc/model-server"


def test_servers_tell_their_answers_where_a_rollout_compares_them(render: Any) -> None:
    def tells(**rollout: Any) -> bool:
        variants = {"blue": {"model": "models:/digits/1"}, "green": {"model": "models:/digits/2"}}
        block = {"variants": variants, "traffic": {"blue": 100}, "rollout": rollout}
        if rollout.get("strategy") == "shadow":
            block["shadow"] = {"variant": "green", "percent": 100}
        objects = render(endpoints={"digits": block})
        files = objects["ConfigMap", settings_of(objects)]["data"]
        return Settings.model_validate(yaml.safe_load(files["settings.yaml"])).server.tells_answers

    assert not tells()
    assert tells(analysis={"predictions": {}})
    assert tells(strategy="shadow", analysis={"agreement": {}})
    requests = {"agreement": {"requests": "requests.jsonl"}}
    assert not tells(analysis=requests), "these are asked for, and clients' answers are not looked at"


def test_a_change_of_the_model_rolls_and_leaves_the_old_settings_to_the_old_replicas(render: Any) -> None:
    before, after = render(), render(endpoints=endpoint(variants={"blue": {"model": "models:/digits/3"}}))
    assert settings_of(before) != settings_of(after)
    assert before["ConfigMap", settings_of(before)]["immutable"]
    again = render()
    assert settings_of(before) == settings_of(again)


def test_a_change_of_weights_touches_the_routes_and_nothing_else(render: Any) -> None:
    def asked(blue: int) -> Any:
        variants = {"blue": {"model": "models:/digits/1"}, "green": {"model": "models:/digits/2"}}
        traffic = {"blue": blue, "green": 100 - blue}
        return render(endpoints={"digits": {"variants": variants, "traffic": traffic}})

    before, after = asked(90), asked(10)
    changed = {key for key in before if before[key] != after.get(key) and key[0] != "Secret"}
    assert set(before) == set(after)
    assert changed == {("HTTPRoute", "digits"), ("GRPCRoute", "digits")}


def test_a_rollout_costs_no_request(render: Any) -> None:
    objects = render()
    spec = objects[BLUE]["spec"]
    rolling = spec["strategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] == 0
    assert rolling["maxSurge"] not in (0, "0%")
    files = objects["ConfigMap", settings_of(objects)]["data"]
    server = Settings.model_validate(yaml.safe_load(files["settings.yaml"])).server
    assert server.drain_seconds >= 5, "gateways learn of it within seconds"
    stop = pod(objects)["terminationGracePeriodSeconds"]
    assert stop > server.drain_seconds + server.shutdown_seconds


def test_the_drain_is_as_long_as_the_stack_file_says(render: Any) -> None:
    objects = render(kubernetes={"drain_s": 40})
    files = objects["ConfigMap", settings_of(objects)]["data"]
    assert yaml.safe_load(files["settings.yaml"])["server"]["drain_seconds"] == 40
    assert pod(objects)["terminationGracePeriodSeconds"] > 70


def test_readiness_asks_the_model_and_liveness_never_waits_behind_requests(render: Any) -> None:
    server = container(render())
    for probe in ("startupProbe", "readinessProbe"):
        assert server[probe]["httpGet"] == {"path": "/v2/health/ready", "port": "http"}
    assert server["livenessProbe"]["tcpSocket"] == {"port": "http"}
    assert "httpGet" not in server["livenessProbe"]
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 300


def test_what_the_server_says_when_it_cannot_load_reaches_whoever_waits(render: Any) -> None:
    assert container(render())["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_a_pod_may_do_nothing_that_it_does_not_need(render: Any) -> None:
    objects = render(registry={"backup": {}, "seed": {"command": ["true"]}})
    jobs = [objects[key]["spec"]["jobTemplate"] for key in objects if key[0] == "CronJob"]
    kinds = ("Deployment", "StatefulSet", "Job")
    sets = [*jobs, *(objects[key] for key in objects if key[0] in kinds)]
    specs = [one["spec"]["template"]["spec"] for one in sets]
    assert len(specs) == 6
    for spec in specs:
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in [*spec["containers"], *spec.get("initContainers", [])]:
            context = one["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert one["resources"]["limits"]["memory"]
    assert objects["ServiceAccount", NAME]["automountServiceAccountToken"] is False
    labels = objects["Namespace", "serving-test"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_only_the_two_ports_are_reached(render: Any) -> None:
    objects = render()
    policy = objects["NetworkPolicy", NAME]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http", "grpc"]
    assert policy["podSelector"]["matchLabels"].items() <= (
        objects[BLUE]["spec"]["template"]["metadata"]["labels"].items()
    )


def test_the_service_says_that_its_second_port_speaks_http2(render: Any) -> None:
    ports = {port["name"]: port for port in render()["Service", NAME]["spec"]["ports"]}
    assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"
    assert ports["http"]["appProtocol"] == "http"


@pytest.mark.parametrize(
    ("scaling", "budget"), [({"min": 1}, False), ({"min": 2}, True), ({"min": 1, "max": 8}, True)]
)
def test_two_replicas_or_more_are_never_all_taken_away(render: Any, scaling: Any, budget: bool) -> None:
    objects = render(endpoints=endpoint(scaling=scaling))
    assert (("PodDisruptionBudget", NAME) in objects) is budget
    if budget:
        assert objects["PodDisruptionBudget", NAME]["spec"]["maxUnavailable"] == 1
        assert objects["PodDisruptionBudget", NAME]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_replicas_are_spread_each_generation_for_itself(render: Any) -> None:
    constraints = pod(render())["topologySpreadConstraints"]
    assert {one["topologyKey"] for one in constraints} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert all(one["matchLabelKeys"] == ["pod-template-hash"] for one in constraints)
    alone = render(endpoints=endpoint(placement={"spread": False}))
    assert "topologySpreadConstraints" not in pod(alone)


def test_resources_are_those_of_the_variant_else_of_the_endpoint(render: Any) -> None:
    variants = {
        "blue": {"model": "models:/digits/1"},
        "green": {
            "model": "models:/digits/2",
            "resources": {"cpu": 2.0, "cpu_limit": 3.5, "memory_mib": 4096},
        },
    }
    common = {"cpu": 0.1, "memory_mib": 256}
    objects = render(
        endpoints={"digits": {"variants": variants, "traffic": {"blue": 100}, "resources": common}}
    )
    assert container(objects)["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "1000m", "memory": "256Mi"},
    }
    assert container(objects, "digits-green")["resources"] == {
        "requests": {"cpu": "2000m", "memory": "4096Mi"},
        "limits": {"cpu": "3500m", "memory": "4096Mi"},
    }


@pytest.mark.parametrize(
    ("resources", "device", "number"),
    [
        ({"gpus": 2}, "nvidia.com/gpu", "2"),
        ({"mig": "1g.10gb"}, "nvidia.com/mig-1g.10gb", "1"),
        ({"gpus": 3, "mig": "2g.20gb"}, "nvidia.com/mig-2g.20gb", "3"),
    ],
)
def test_a_gpu_is_asked_for_and_its_nodes_put_up_with(
    render: Any, resources: Any, device: str, number: str
) -> None:
    objects = render(endpoints=endpoint(resources=resources))
    for part in ("requests", "limits"):
        assert container(objects)["resources"][part][device] == number
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in pod(objects)["tolerations"]
    assert objects[BLUE]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1


def test_a_device_can_be_claimed_instead(render: Any) -> None:
    objects = render(endpoints=endpoint(resources={"gpu_claim": "single-gpu"}))
    assert pod(objects)["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": "single-gpu"}]
    assert container(objects)["resources"]["claims"] == [{"name": "gpu"}]


def test_a_variant_without_a_gpu_tolerates_nothing(render: Any) -> None:
    assert "tolerations" not in pod(render())


def test_placement_is_passed_on(render: Any) -> None:
    placement = {
        "node_labels": {"pool": "serving"},
        "tolerations": [{"key": "dedicated", "value": "serving", "effect": "NoSchedule"}, {"key": "any"}],
        "priority_class": "high",
    }
    spec = pod(render(endpoints=endpoint(placement=placement)))
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [
        {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["serving"]}]}
    ]
    assert spec["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "serving", "effect": "NoSchedule"},
        {"key": "any", "operator": "Exists"},
    ]
    assert spec["priorityClassName"] == "high"


def test_credentials_come_from_secrets_only(render: Any) -> None:
    objects = render(
        registry={"login_secret": "login"}, kubernetes={"secret": "sources", "pull_secret": "pull"}
    )
    server = container(objects)
    assert server["envFrom"] == [{"secretRef": {"name": "sources"}}]
    login = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in server["env"]}
    assert login["MLFLOW_TRACKING_PASSWORD"] == {"name": "login", "key": "password"}
    assert pod(objects)["imagePullSecrets"] == [{"name": "pull"}]


def test_a_namespace_that_exists_is_used(render: Any) -> None:
    objects = render(kubernetes={"namespace": "there"})
    assert not [key for key in objects if key[0] == "Namespace"]
    assert {manifest["metadata"]["namespace"] for manifest in objects.values()} == {"there"}


def test_a_model_in_an_image_is_mounted_and_not_downloaded(render: Any) -> None:
    image = "registry.example.com/models/digits@sha256:" + "0" * 64
    objects = render(endpoints=endpoint(variants={"blue": {"model": f"oci://{image}"}}), registry=None)
    (volume,) = [one for one in pod(objects)["volumes"] if one["name"] == "model"]
    assert volume["image"] == {"reference": image, "pullPolicy": "IfNotPresent"}
    (mount,) = [one for one in container(objects)["volumeMounts"] if one["name"] == "model"]
    assert mount["readOnly"] is True
    files = objects["ConfigMap", settings_of(objects)]["data"]
    (model,) = Settings.model_validate(yaml.safe_load(files["settings.yaml"])).models
    assert model.source == mount["mountPath"]
    assert "model" not in {one["name"] for one in pod(render())["volumes"]}


def test_an_image_that_is_known_too_late_is_refused() -> None:
    def program() -> None:
        model = pulumi.Output.from_input("oci://registry.example.com/m:1")
        ModelServer("digits", {"model": model, "platform": "kubernetes"})

    with pytest.raises(ArgumentsError, match="must be known before anything is made"):
        run(program)


def test_only_named_callers_reach_the_servers(render: Any) -> None:
    objects = render(kubernetes={"callers": ["monitoring", "envoy-gateway-system"]})
    (rule,) = objects["NetworkPolicy", NAME]["spec"]["ingress"]
    own, others = rule["from"]
    assert own == {"podSelector": {}}
    (named,) = others["namespaceSelector"]["matchExpressions"]
    assert (named["key"], named["values"]) == (
        "kubernetes.io/metadata.name",
        ["envoy-gateway-system", "monitoring"],
    )
    (open_rule,) = render()["NetworkPolicy", NAME]["spec"]["ingress"]
    assert "from" not in open_rule


def test_a_runtime_class_is_passed_on(render: Any) -> None:
    assert (
        pod(render(endpoints=endpoint(placement={"runtime_class": "nvidia"})))["runtimeClassName"] == "nvidia"
    )
