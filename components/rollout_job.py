"""RolloutJob: a driver of rollouts that runs in the cluster."""

from collections.abc import Iterator
from typing import NotRequired, TypedDict

from pulumi import ComponentResource, Input, ResourceOptions

from .arguments import checked
from .platform import platform
from .spec import GatewaySettings, KubernetesSettings, PlatformName


class RolloutJobArgs(TypedDict):
    """What a driver in the cluster is made from."""

    endpoint: str
    """The endpoint whose requests are moved; its block has `rollout`."""

    stack: str
    """The stack that the endpoint belongs to, as `pulumi --stack` takes it."""

    image: Input[str]
    """An image with the Pulumi engine, this package with the extras `kubernetes`, `rollout` and
    `rollout-kubernetes`, and the project's folder; see docs/rollouts.md."""

    folder: NotRequired[str]
    """Where the image has the project; `/estate` where it is left out."""

    schedule: NotRequired[str]
    """When to look for a version that was not tried, as cron writes it, e.g. `*/10 * * * *`. Without it
    there is one Job, for one rollout."""

    candidate: NotRequired[str]
    """The variant that is to take over; the one without requests whose model is new, where it is left
    out."""

    backend: NotRequired[Input[str]]
    """Where the state is (`PULUMI_BACKEND_URL`): the address of a bucket, say. Pulumi Cloud where neither
    this nor `claim` is given."""

    secret: NotRequired[str]
    """Name of a Secret whose entries become environment variables: `PULUMI_ACCESS_TOKEN` or
    `PULUMI_CONFIG_PASSPHRASE`, credentials of the backend, `ESTATE_WEBHOOK`."""

    claim: NotRequired[str]
    """Name of a PersistentVolumeClaim with the state, mounted at `/backend`, for a backend that is a
    folder."""

    prometheus: NotRequired[str]
    """Address of a Prometheus that scrapes the servers; the pods themselves are asked where it is left
    out."""

    host: NotRequired[Input[str]]
    """The `host` of the endpoint: its namespace."""

    kubernetes: NotRequired[KubernetesSettings]
    """Its `namespace`, where there is no `host`, and its `pull_secret`."""

    gateway_settings: NotRequired[GatewaySettings]
    """Which gateway it is; with `envoy` the driver may read the proxies' metrics."""


class RolloutJob(ComponentResource):
    """`estate rollout run` as a Job or a CronJob, with the rights for it and no others."""

    def __init__(self, name: str, args: RolloutJobArgs, opts: ResourceOptions | None = None) -> None:
        """Let `args["endpoint"]` be driven in the cluster."""
        super().__init__("serving-estate:index:RolloutJob", name, {}, opts)
        args = checked(RolloutJobArgs, args, f"RolloutJob {name}", {"schedule": _wrong_schedule})
        # Only clusters have such jobs; other platforms must not import what belongs to one.
        from .kubernetes.rollout_job import Drive, rollout_job

        cluster = args.get("kubernetes") or KubernetesSettings()
        host = args.get("host") or platform(PlatformName.KUBERNETES).host(name, cluster, self)
        drive = Drive(
            endpoint=args["endpoint"],
            stack=args["stack"],
            image=args["image"],
            folder=args.get("folder") or "/estate",
            schedule=args.get("schedule"),
            candidate=args.get("candidate"),
            backend=args.get("backend"),
            secret=args.get("secret"),
            claim=args.get("claim"),
            prometheus=args.get("prometheus"),
        )
        gateway = args.get("gateway_settings") or GatewaySettings()
        rollout_job(name, host, drive, cluster, gateway, self)
        self.register_outputs({})


def _wrong_schedule(schedule: str) -> Iterator[str]:
    if len(schedule.split()) != 5 and not schedule.startswith("@"):
        yield f"must be five fields as cron has them, e.g. '*/10 * * * *'; got '{schedule}'"
