"""Bring up the estate that the stack file describes."""

import pulumi

from components import Estate
from stacks.configuration import estate_spec

estate = Estate("estate", {"spec": estate_spec()})

pulumi.export("endpoints", estate.endpoints)
pulumi.export("registry", estate.registry)
pulumi.export("gateway", estate.gateway)
