"""Compile each `proto/X.proto` to `proto/X.binpb`: `python -m model_server.protocols.grpc.generate`.

For developers: it needs the package grpcio-tools, which the server does not.
"""

import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "proto"


def main() -> int:
    """Compile; return the compiler's exit code."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from grpc_tools import protoc  # type: ignore[import-untyped]

    for source in sorted(FOLDER.glob("*.proto")):
        with tempfile.NamedTemporaryFile() as output:
            code: int = protoc.main(
                ["protoc", f"-I{FOLDER}", f"--descriptor_set_out={output.name}", source.name]
            )
            if code:
                return code
            (file,) = FileDescriptorSet.FromString(output.read()).file
        source.with_suffix(".binpb").write_bytes(file.SerializeToString(deterministic=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
