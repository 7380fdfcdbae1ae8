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
        print(f"stack {stack} has no endpoints yet: add one below `serving-estate:endpoints` in its file")
        return 0
    for name, endpoint in endpoints.items():
        shares = ", ".join(f"{key} {variant['weight']} %" for key, variant in endpoint["variants"].items())
        print(f"\n{name}: {endpoint['url']}, gRPC {endpoint['grpc']} ({shares})")
    return ask(*next(iter(endpoints.items())))


def outputs(stack: str) -> dict[str, Any]:
    """The outputs of a stack."""
    command = ["pulumi", "stack", "output", "--json", "--stack", stack]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def ask(name: str, endpoint: dict[str, Any]) -> int:
    """Send one request and print it with its answer."""
    url = f"{endpoint['url']}/v2/models/{name}"
    with call(f"{endpoint['url']}/openapi.json") as response:
        infer = json.load(response)["paths"][f"/v2/models/{name}/infer"]["post"]
    example = infer["requestBody"]["content"]["application/json"].get("example")
    if example is None:
        print(f"\nA request to {name} is too long to show; what it takes is at {endpoint['url']}/docs\n")
        return 0
    body = json.dumps(example)
    print(f"\nTry it:\n\n  curl -s {url}/infer -d {shlex.quote(body)}\n")
    try:
        with call(f"{url}/infer", body.encode()) as response:
            print(f"Answer, from variant {response.headers['x-variant']}:\n\n  {response.read().decode()}\n")
    except urllib.error.HTTPError as error:
        print(f"It was refused with {error.code}: {error.read().decode()}", file=sys.stderr)
        return 1
    return 0


def call(url: str, body: bytes | None = None) -> Any:
    """Open an address of the stack's own gateway."""
    return urllib.request.urlopen(url, body, timeout=30)  # noqa: S310  the stack says http://127.0.0.1


if __name__ == "__main__":
    sys.exit(main())
