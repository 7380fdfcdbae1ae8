"""Ask a stack that is up for a prediction: prints the address, the request to copy, and the answer."""

import json
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any


def main() -> int:
    """Show each endpoint of the stack that the command line names (default: local)."""
    stack = sys.argv[1] if len(sys.argv) > 1 else "local"
    endpoints = outputs(stack).get("endpoints") or {}
    if not endpoints:
        print(f"stack {stack} has no endpoints yet: add one under `serving-estate:endpoints` in its stack file")
        return 0
    for name, endpoint in endpoints.items():
        shares = ", ".join(f"{key} {variant['weight']} %" for key, variant in endpoint["variants"].items())
        print(f"\n{name}: {endpoint['url']}, gRPC {endpoint['grpc']} ({shares})")
    return ask(*next(iter(endpoints.items())))


def outputs(stack: str) -> dict[str, Any]:
    """The outputs of a stack."""
    command = ["pulumi", "stack", "output", "--json", "--stack", stack]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def ask(name: str, endpoint: dict[str, Any]) -> int:
    """Send one request and print it with its answer."""
    url = f"{endpoint['url']}/v2/models/{name}/infer"
    body = json.dumps({"inputs": [sample(name, endpoint["url"])]})
    print(f"\nTry it:\n\n  curl -s {url} -d {shlex.quote(body)}\n")
    try:
        with urllib.request.urlopen(url, body.encode(), timeout=30) as response:
            print(f"Answer, from variant {response.headers['x-variant']}:\n\n  {response.read().decode()}\n")
    except urllib.error.HTTPError as error:
        print(f"It was refused with {error.code}: {error.read().decode()}", file=sys.stderr)
        return 1
    return 0


def sample(name: str, url: str) -> dict[str, Any]:
    """One row for the model: held-out data of the example models, else ones of the shape it asks for."""
    with urllib.request.urlopen(f"{url}/v2/models/{name}", timeout=30) as response:
        tensor = json.load(response)["inputs"][0]
    shape = [size if size > 0 else 1 for size in tensor["shape"]]
    return {"name": tensor["name"], "shape": shape, "datatype": tensor["datatype"], "data": _row(name, shape)}


def _row(name: str, shape: list[int]) -> list[float]:
    from stacks.models.catalog import EXAMPLES  # slow to import, and not every stack needs it

    if name in EXAMPLES:
        _, held_out, _, _ = EXAMPLES[name].data()
        return [round(float(value), 4) for value in held_out[0]]
    count = 1
    for size in shape:
        count *= size
    return [1.0] * count


if __name__ == "__main__":
    sys.exit(main())
