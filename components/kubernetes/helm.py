"""Helm charts as Pulumi's Kubernetes provider installs them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi import Resource, ResourceOptions

from .objects import plugin_version


class Release(pulumi.CustomResource):
    """A chart that is installed, as `helm upgrade --install` does."""

    def __init__(
        self, name: str, release: Mapping[str, Any], parent: Resource, *, after: Sequence[Resource] = ()
    ) -> None:
        """Install a chart.

        Args:
            name: the name of the Pulumi resource.
            release: chart, version, repository and values, as the provider's `helm.sh/v3:Release` takes them.
            parent: the component that it belongs to.
            after: what has to be there first.
        """
        opts = ResourceOptions(parent=parent, version=plugin_version(), depends_on=[*after] or None)
        super().__init__("kubernetes:helm.sh/v3:Release", name, {**release, "status": None}, opts)
