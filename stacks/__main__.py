"""Bring up the estate that the stack file describes."""

import asyncio

import pulumi

from components import Estate
from stacks.configuration import estate_spec


async def main() -> pulumi.Inputs:
    """Make the estate; what it returns are the stack's outputs."""
    estate = Estate("estate", {"spec": estate_spec()})
    # Lets what was asked for begin. Pulumi's SDK waits for what has begun one by one, and goes through the
    # rest whenever some of it is done: with hundreds of endpoints that takes a quarter of the program's time.
    await asyncio.sleep(0)
    return {"endpoints": estate.endpoints, "registry": estate.registry, "gateway": estate.gateway}


pulumi.run(main)
