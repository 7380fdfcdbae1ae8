"""From nothing to everything, again without a change, and back to nothing."""

import base64
import secrets
from collections.abc import Callable

import pytest

from tests.cluster.provider.stack import Stack

pytestmark = pytest.mark.long

PROGRAM = """
GROUP = {group!r}
ns = k8s.core.v1.Namespace("space", metadata={{"name": {space!r}}})
inside = {{"namespace": ns.metadata.name}}

config = k8s.core.v1.ConfigMap("config", metadata=inside, data={{"greeting": "hello"}})
secret = k8s.core.v1.Secret(
    "secret", metadata=inside, string_data={{"password": pulumi.Output.secret("open sesame")}}
)
account = k8s.core.v1.ServiceAccount("account", metadata=inside)
labels = {{"app": "web"}}
soon = {{"pulumi.com/timeoutSeconds": "60"}}
web = k8s.apps.v1.Deployment(
    "web",
    metadata={{**inside, "annotations": soon}},
    spec={{
        "replicas": 2,
        "selector": {{"matchLabels": labels}},
        "template": {{
            "metadata": {{"labels": labels}},
            "spec": {{
                "serviceAccountName": account.metadata.name,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {{"runAsUser": 0}},
                "containers": [
                    {{
                        "name": "web",
                        "image": {image!r},
                        "command": ["sh", "-c", "sleep 3600"],
                        "envFrom": [{{"configMapRef": {{"name": config.metadata.name}}}}],
                        "resources": {{"limits": {{"cpu": "1000m"}}, "requests": {{"cpu": "1m"}}}},
                    }}
                ],
            }},
        }},
    }},
)
service = k8s.core.v1.Service(
    "front", metadata=inside, spec={{"selector": labels, "ports": [{{"port": 80}}]}}
)
job = k8s.batch.v1.Job(
    "once",
    metadata={{**inside, "annotations": soon}},
    spec={{
        "template": {{
            "spec": {{
                "restartPolicy": "Never",
                "securityContext": {{"runAsUser": 0}},
                "containers": [{{"name": "once", "image": {image!r}, "command": ["true"]}}],
            }}
        }}
    }},
)
definition = k8s.apiextensions.v1.CustomResourceDefinition(
    "definition",
    metadata={{"name": f"things.{{GROUP}}"}},
    spec={{
        "group": GROUP,
        "names": {{"kind": "Thing", "plural": "things"}},
        "scope": "Cluster",
        "versions": [
            {{
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {{
                    "openAPIV3Schema": {{
                        "type": "object",
                        "properties": {{
                            "spec": {{"type": "object", "x_kubernetes_preserve_unknown_fields": True}}
                        }},
                    }}
                }},
            }}
        ],
    }},
)
thing = k8s.apiextensions.CustomResource(
    "thing",
    api_version=f"{{GROUP}}/v1",
    kind="Thing",
    spec={{"size": 3}},
    opts=Options(depends_on=[definition]),
)
pulumi.export("address", service.spec.cluster_ip)
pulumi.export("available", web.status.available_replicas)
pulumi.export("data", secret.data)
pulumi.export("thing", thing.metadata["name"])
"""


def test_from_nothing_to_everything_and_back(stack: Stack, image: str, gone: Callable[[str], bool]) -> None:
    space, group = f"provider-{secrets.token_hex(4)}", f"g{secrets.token_hex(4)}.example.com"
    stack.program(PROGRAM.format(space=space, group=group, image=image))

    # The namespace and the definition do not exist: the preview must not mind.
    stack.run("preview")
    assert gone(f"/api/v1/namespaces/{space}")

    made = stack.up()
    assert set(made.values()) == {"create"}
    assert made.keys() == {
        "space", "config", "secret", "account", "web", "front", "once", "definition", "thing"
    }  # fmt: skip
    outputs = stack.outputs()
    assert outputs["available"] == 2
    assert outputs["address"].count(".") == 3
    assert outputs["data"] == "[secret]"
    assert stack.api.get(f"/apis/{group}/v1/things/{outputs['thing']}")["spec"] == {"size": 3}
    (kept,) = stack.api.get(f"/api/v1/namespaces/{space}/secrets")["items"]
    assert base64.b64decode(kept["data"]["password"]).decode() == "open sesame"
    state = stack.run("stack", "export")
    assert "open sesame" not in state
    assert kept["data"]["password"] not in state

    assert stack.up() == {}
    stack.run("refresh", "--expect-no-changes")
    assert stack.up() == {}

    stack.run("destroy")
    assert gone(f"/api/v1/namespaces/{space}")
    assert gone(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.{group}")
