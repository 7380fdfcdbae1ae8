"""The stack files' JSON Schema and the reference say what the program does."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from components.spec import EstateSpec, validate
from components.spec.facts import blocks, choices, fields
from components.spec.generated import main
from components.spec.names import ENDPOINT, VARIANT, wrong_name
from components.spec.reference import reference
from components.spec.stack_schema import FILE, stack_schema

ROOT = Path(__file__).parents[3]
CASES: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("wrong_stack_files.yaml").read_text(encoding="utf-8")
)
SHIPPED = sorted((ROOT / "stacks").glob("Pulumi.*.yaml"))
SCHEMA = jsonschema.Draft7Validator(stack_schema())


def named(value: Any) -> Any:
    """A value as an editor sees it: every name is text, `1` as well."""
    if isinstance(value, dict):
        return {str(name): named(item) for name, item in value.items()}
    return [named(item) for item in value] if isinstance(value, list) else value


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(stack_schema())


def test_the_committed_files_are_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    files = {FILE: stack_schema, ROOT / "docs" / "reference.md": reference}
    assert main(files, ["--check"]) == 0, capsys.readouterr().out


def test_drift_is_found_and_mended(tmp_path: Path) -> None:
    files = {tmp_path / "new" / "schema.json": stack_schema}
    assert main(files, ["--check"]) == 1
    assert main(files, []) == 0
    assert main(files, ["--check"]) == 0


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_a_shipped_stack_file_is_valid_and_names_the_schema(file: Path) -> None:
    text = file.read_text()
    found = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert found
    assert (file.parent / found[1]).resolve() == FILE
    assert list(SCHEMA.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_an_editor_refuses_what_is_wrong_by_structure(case: dict[str, Any]) -> None:
    refused = not SCHEMA.is_valid(named(yaml.safe_load(case["file"])))
    assert refused == (case.get("schema") != "passes")


def test_an_editor_allows_other_packages_and_secrets() -> None:
    text = "config: {'serving-estate:platform': local, 'aws:region': x}\nencryptionsalt: v1"
    assert SCHEMA.is_valid(yaml.safe_load(text))


def test_every_field_is_documented_with_an_example_that_holds() -> None:
    whole, text = stack_schema(), reference()
    for block in blocks(EstateSpec):
        for facts in fields(block):
            where = f"{block.__name__}.{facts.name}"
            assert facts.doc.endswith("."), where
            assert "\n" not in facts.doc, where
            assert facts.example, where
            assert facts.name in text, where
            value = yaml.safe_load(facts.example)
            schema = next(iter(_schemas(whole, facts.name, facts.doc)))
            assert jsonschema.Draft7Validator(schema).is_valid(value), where


def _schemas(node: Any, name: str, doc: str) -> Any:
    """The schemas of the field `name` that is documented by `doc`."""
    if isinstance(node, dict):
        for key, below in node.items():
            if key.removeprefix("serving-estate:") == name and str(_doc(below)).startswith(doc):
                yield below
            yield from _schemas(below, name, doc)


def _doc(node: Any) -> Any:
    return node.get("description") if isinstance(node, dict) else None


def test_every_number_has_a_unit_and_every_bounded_one_its_range() -> None:
    for block in blocks(EstateSpec):
        for facts in fields(block):
            if "number" in facts.type:
                assert facts.unit, facts.name
                assert facts.range, facts.name


def test_every_choice_is_documented() -> None:
    for block in blocks(EstateSpec):
        for field in block.model_fields.values():
            for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if hasattr(kind, "__members__"):
                    assert all(choices(kind).values()), kind


def test_the_example_of_the_reference_is_a_valid_stack_file() -> None:
    example = re.search(r"```yaml\n(.*?)```", reference(), re.DOTALL)
    assert example
    config = yaml.safe_load(example[1])["config"]
    assert SCHEMA.is_valid({"config": config})
    validate(EstateSpec, {key.removeprefix("serving-estate:"): value for key, value in config.items()})


@pytest.mark.parametrize("kind", [ENDPOINT, VARIANT])
@pytest.mark.parametrize("name", ["A B", "ünï", "", "1", "--", "x" * 99, "blue\n", "日本", "a_b-"])
def test_a_wrong_name_is_answered_with_a_right_one(kind: re.Pattern[str], name: str) -> None:
    assert not kind.fullmatch(name)
    suggested = wrong_name(name, kind).rpartition("e.g. ")[2].strip("`")
    assert kind.fullmatch(suggested)
