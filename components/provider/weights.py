"""The weights of an endpoint as a resource has them in its state."""

from collections.abc import Collection

from .kind import Properties


def weights(properties: Properties, variants: Collection[str]) -> dict[str, int]:
    """The weights of the variants that there are; those of a rollout may not know all of them, or more.

    Raises:
        RuntimeError: a variant that gets requests is not there any more.
    """
    traffic = properties["traffic"]
    gone = [f"{name} ({share} %)" for name, share in traffic.items() if share and name not in variants]
    if gone:
        raise RuntimeError(
            f"endpoint {properties['name']}: {', '.join(gone)} still gets requests and cannot be removed; "
            "a rollout owns the weights: promote or abort it first (`estate rollout`)"
        )
    return {name: int(traffic.get(name, 0)) for name in variants}
