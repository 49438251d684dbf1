"""Generated files are what the config's model says, and every platform can read them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from connector import Config, stores
from connector.config.spec import spec
from spec import generate
from tests.config.test_config import SAVED_BY_AI_SQUARED

FILES = generate.files()
NOT_OFFERED = {"api_key_command", "api_key_seconds"}


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside a schema, with its path."""
    yield path, schema
    for name, each in schema.get("properties", {}).items():
        yield from nodes(each, f"{path}.{name}")
    for position, each in enumerate(schema.get("oneOf", [])):
        yield from nodes(each, f"{path}[{position}]")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_generated_files_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path], "run `make spec`"


def test_the_spec_is_valid_draft_07() -> None:
    Draft7Validator.check_schema(spec())


def test_the_spec_says_nothing_that_a_platform_cannot_draw() -> None:
    for path, schema in nodes(spec()):
        assert not {"anyOf", "allOf", "not", "if", "$ref", "additionalProperties"} & set(schema), path
        assert isinstance(schema.get("type"), str), path
        assert schema["type"] != "object" or schema.get("properties") or schema.get("oneOf"), path


def test_every_option_has_what_a_form_needs() -> None:
    for path, schema in nodes(spec()):
        if path and not path.endswith("]"):
            assert "title" in schema, path
            assert "description" in schema or "const" in schema, path


def test_options_are_ordered() -> None:
    orders = [schema["order"] for schema in spec()["properties"].values()]
    assert orders == sorted(set(orders))


def test_a_one_of_tells_its_branches_by_one_constant() -> None:
    branches = spec()["properties"]["input"]["oneOf"]
    assert [branch["properties"]["type"]["const"] for branch in branches] == list(stores.KINDS)


@pytest.mark.parametrize("flag", ["airbyte_secret", "multiwoven_secret", "writeOnly"])
def test_secrets_are_flagged_for_every_platform(flag: str) -> None:
    flagged = {path for path, schema in nodes(spec()) if schema.get(flag) is True}
    assert {".api_key", ".headers", ".proxy"} <= flagged


def test_every_option_that_a_platform_may_set_is_in_the_spec_and_on_the_page_of_options() -> None:
    page = generate.OPTIONS.read_text(encoding="utf-8")
    for name in Config.model_fields.keys() - NOT_OFFERED:
        assert name in spec()["properties"]
        assert page.count(f"| `{name}`") or page.count(f"| `{name}."), name


def test_every_option_of_an_input_is_on_the_page_of_options() -> None:
    page = generate.OPTIONS.read_text(encoding="utf-8")
    for branch in spec()["properties"]["input"]["oneOf"]:
        section = page.partition(f'"type": "{branch["properties"]["type"]["const"]}"')[2].partition("\n### ")[0]
        assert all(f"| `{name}` |" in section for name in branch["properties"] if name != "type")


def test_what_no_platform_may_set_is_in_no_generated_file_and_documented_for_people() -> None:
    keys = (generate.ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    for name in NOT_OFFERED:
        assert name in Config.model_fields
        assert not [path for path, text in FILES.items() if name in text]
        assert f"`{name}`" in keys


def test_what_generates_these_files_is_not_installed() -> None:
    find = tomllib.loads((generate.ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    packages = {init.parent.name for init in generate.ROOT.glob("*/__init__.py")}
    assert {"connector", "spec", "tests"} <= packages
    assert {name for name in packages for pattern in find["include"] if fnmatchcase(name, pattern)} == {"connector"}


def test_a_config_saved_by_ai_squared_is_valid_as_it_stands() -> None:
    Draft7Validator(spec()).validate(SAVED_BY_AI_SQUARED)
