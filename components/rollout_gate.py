"""RolloutGate: the statistics of rollouts, for Flagger to ask."""

from typing import NotRequired, TypedDict

from pulumi import ComponentResource, Input, Output, ResourceOptions

from .arguments import checked
from .platform import platform
from .spec import KubernetesSettings, PlatformName


class RolloutGateArgs(TypedDict):
    """What a gate is made from."""

    image: Input[str]
    """An image with this package and its extras `rollout` and `rollout-kubernetes`; that of a `RolloutJob`
    will do."""

    host: NotRequired[Input[str]]
    """The `host` of the endpoints: the gate reads the metrics of that namespace only."""

    kubernetes: NotRequired[KubernetesSettings]
    """Its `namespace`, where there is no `host`, and its `pull_secret`."""


class RolloutGate(ComponentResource):
    """Answers Flagger whether a canary may go on: the `gate` of endpoints with `rollout.flagger`."""

    url: Output[str]
    """Its address in the cluster."""

    def __init__(self, name: str, args: RolloutGateArgs, opts: ResourceOptions | None = None) -> None:
        """Answer Flagger."""
        super().__init__("serving-estate:index:RolloutGate", name, {}, opts)
        args = checked(RolloutGateArgs, args, f"RolloutGate {name}")
        # Only clusters have such; other platforms must not import what belongs to one.
        from .kubernetes.rollout_gate import rollout_gate

        cluster = args.get("kubernetes") or KubernetesSettings()
        host = args.get("host") or platform(PlatformName.KUBERNETES).host(name, cluster, self)
        self.url = rollout_gate(name, host, args["image"], cluster, self)
        self.register_outputs({"url": self.url})
