"""Our description of the protocol against Triton's, field by field."""

import subprocess
import sys
from pathlib import Path

import pytest
from model_server.protocols.grpc import generate, messages
from tritonclient.grpc import model_config_pb2, service_pb2

# KServe's answers to load and unload have fields that Triton's lack; KServe's are new numbers there.
KSERVE_ONLY = {"model_name", "isLoaded", "isUnloaded"}


def theirs(name: str):
    for module in (service_pb2, model_config_pb2):
        if name in module.DESCRIPTOR.message_types_by_name:
            return module.DESCRIPTOR.message_types_by_name[name]
    return None


def compare(ours, other) -> int:
    compared = 0
    for field in ours.fields:
        if (
            ours.name.startswith("Repository")
            and ours.name.endswith("Response")
            and field.name in KSERVE_ONLY
        ):
            continue
        match = other.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (
            match.number,
            match.type,
            match.is_repeated,
        ), f"{ours.name}.{field.name}"
        compared += 1
    for nested in ours.nested_types:
        compared += compare(nested, other.nested_types_by_name[nested.name])
    return compared


def test_fields_are_those_of_triton() -> None:
    file = messages.POOL.FindFileByName("open_inference.proto")
    compared = sum(
        compare(descriptor, theirs(name)) for name, descriptor in file.message_types_by_name.items()
    )
    assert compared > 100
    for name, enum in file.enum_types_by_name.items():
        other = model_config_pb2.DESCRIPTOR.enum_types_by_name[name]
        assert {v.name: v.number for v in enum.values} == {v.name: v.number for v in other.values}


def test_methods_are_those_of_triton() -> None:
    ours = messages.POOL.FindServiceByName("inference.GRPCInferenceService")
    other = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert {method.name for method in ours.methods} <= {method.name for method in other.methods}


def test_descriptions_are_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in generate.FOLDER.glob("*.proto"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    assert generate.main() == 0
    for path in tmp_path.glob("*.binpb"):
        assert path.read_bytes() == (Path(messages.__file__).parent / "proto" / path.name).read_bytes()


def test_other_packages_with_the_same_messages_can_be_imported_beside() -> None:
    code = "import model_server.protocols.grpc.port, tritonclient.grpc; print('both')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "both\n"


def test_grpcio_is_not_needed() -> None:
    code = (
        "import sys; sys.modules['grpc'] = None; import model_server.protocols.grpc.port; "
        "assert 'google.protobuf.message_factory' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
