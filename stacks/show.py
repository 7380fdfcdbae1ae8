"""Show what a stack serves: each endpoint's URL, a request to copy, and the answer to it."""

import json
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ZERO = {"BYTES": "", "BOOL": False}


def endpoints(stack: str) -> dict[str, Any]:
    """Read the endpoints from the stack's outputs."""
    told = subprocess.run(
        ["pulumi", "-C", str(ROOT), "stack", "output", "--json", "--stack", stack],  # noqa: S607 - the user's own
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: dict[str, Any] = json.loads(told).get("endpoints", {})
    return found


def example(metadata: dict[str, Any]) -> dict[str, Any]:
    """Make a request for one row from what a model says of its inputs."""
    inputs = []
    for tensor in metadata["inputs"]:
        shape = [size if size > 0 else 1 for size in tensor["shape"]]
        count = 1
        for size in shape:
            count *= size
        inputs.append(
            {
                "name": tensor["name"],
                "shape": shape,
                "datatype": tensor["datatype"],
                "data": [ZERO.get(tensor["datatype"], 0)] * count,
            }
        )
    return {"inputs": inputs}


def call(url: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request, and read the answer's JSON."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - our own gateway
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def show(name: str, url: str) -> None:
    """Show one endpoint."""
    body = example(call(f"{url}/v2/models/{name}"))
    infer = f"{url}/v2/models/{name}/infer"
    print(f"\n{name}: {url}\n")
    print(
        f"  curl -s {infer} -H 'Content-Type: application/json' \\\n    -d {shlex.quote(json.dumps(body))}\n"
    )
    print(f"  {json.dumps(call(infer, body))}")


def main() -> int:
    """Show every endpoint of the stack."""
    try:
        for name, endpoint in endpoints(sys.argv[1] if len(sys.argv) > 1 else "local").items():
            show(name, endpoint["url"])
    except urllib.error.URLError as error:
        print(f"error: the endpoint does not answer: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
