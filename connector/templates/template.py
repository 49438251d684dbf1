"""JSON whose strings are templates: parsed and compiled once, rendered for each row.

A row's text can never break or change the JSON around it, and a string that is one `{{ expression }}` keeps the value's
type. Templates of columns and text alone are filled in directly; Jinja2, which takes long to load, makes the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from connector.base.decoding import loads
from connector.base.errors import ConfigError, Problem, TemplateError
from connector.base.records import JSON, Schema
from connector.templates.plain import NotPlainError, Plain
from connector.templates.schema_inference import schema_of_value


class Template:
    """A compiled JSON structure (or JSON text with control blocks around its parts).

    Args:
        source: The structure, or its JSON text. Text that is JSON only after rendering is one template as a whole.
        path: The option that it comes from, such as `request_format`, for messages.
        lenient: Whether a missing value is null rather than an error, as a reply need not have every field.
        fixed_keys: Whether the top-level keys are plain names, such as columns, rather than templates.
        constants: Names with the same value for every row. A column of the same name is `record["name"]`.
        image_root: The folder from which rows may name images; `None` if they may name none.
        options: The option in which a string was written, by its text, for messages.

    Raises:
        ConfigError: It is neither JSON nor a template, or uses what templates may not. Lists all bad strings.
    """

    def __init__(
        self,
        source: JSON,
        path: str,
        *,
        lenient: bool = False,
        fixed_keys: bool = False,
        constants: Mapping[str, Any] | None = None,
        image_root: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self._source, is_text = _parsed(source, path)
        self.structure = None if is_text else self._source
        self._settings = {
            "is_text": is_text,
            "lenient": lenient,
            "fixed_keys": fixed_keys,
            "constants": constants,
            "image_root": image_root,
            "options": options,
        }
        self._plain: Plain | None = None
        try:
            if not is_text:
                self._plain = Plain(self._source, path, constants or {}, options or {})
        except NotPlainError:
            pass
        if self._plain is None:
            _ = self._jinja  # to find its errors before any row

    @cached_property
    def _jinja(self) -> Any:
        """The template as Jinja2 has it; where there is a fast path, only for the first row that needs it."""
        return import_module("connector.templates.jinja").JinjaTemplate(self._source, self.path, **self._settings)

    @property
    def strings(self) -> Sequence[Any]:
        """The strings that are templates, each with its `path` and what it `reads()`."""
        strings: Sequence[Any] = (self._plain or self._jinja).strings
        return strings

    @property
    def names(self) -> set[str]:
        """The names that it reads."""
        names: set[str] = (self._plain or self._jinja).names
        return names

    @property
    def reads_row(self) -> bool:
        """Whether it reads the row as a whole: `record`."""
        return self._plain is None and bool(self._jinja.reads_row)

    def reads_members_of(self, name: str) -> bool:
        """Returns whether it reads members of the object `name` (`{{ name.a }}`), and `name` in no other way."""
        return bool((self._plain or self._jinja).reads_members_of(name))

    def required(self) -> dict[str, str]:
        """Returns the names that a row must have, each with the place of the first string that needs it."""
        names: dict[str, str] = (self._plain or self._jinja).required()
        return names

    def columns_through(self, name: str) -> set[str]:
        """Returns the names whose values go through the filter `name`."""
        return set() if self._plain else set(self._jinja.columns_through(name))

    def columns(self, names: Schema) -> dict[str, Schema]:
        """Returns the schema of each key of the structure; `names`, an object schema, describes what they read."""
        schema_at = (self._plain or self._jinja).schema_at

        def schema_of(value: JSON, path: str) -> Schema:
            if isinstance(value, dict):
                properties = {key: schema_of(each, f"{path}.{key}") for key, each in value.items()}
                return {"type": "object", "properties": properties}
            found: Schema | None = schema_at(path, names) if isinstance(value, str) else None
            return schema_of_value(value) if found is None else found

        return {key: schema_of(value, f"{self.path}.{key}") for key, value in (self.structure or {}).items()}

    def copies(self, row: Mapping[str, str]) -> bool:
        """Returns whether it only copies texts of this row; then it renders every row with no longer texts there."""
        if self._plain is None:
            return False
        try:
            self._plain.fill(row)
        except Exception:  # noqa: BLE001 - whatever is wrong with it
            return False
        return True

    def render(self, row: Mapping[str, Any]) -> Any:
        """Renders for one row. Takes about 2 µs for a typical chat request, encoding included.

        Raises:
            TemplateError: The row lacks a column, has a null inside a text, or makes an expression fail.
        """
        if self._plain is not None:
            try:
                return self._plain.fill(row)
            except Exception:  # noqa: BLE001, S110 - a value can raise anything
                pass  # Jinja2 renders the row, or explains why it cannot
        return self._jinja.render(row)

    def null_at(self, path: str, row: Mapping[str, Any]) -> TemplateError:
        """Returns the error for a row that renders to null at a path of the structure."""
        error: TemplateError = self._jinja.null_at(path, row)
        return error


def _parsed(source: JSON, path: str) -> tuple[JSON, bool]:
    if not isinstance(source, str):
        return source, False
    try:
        return loads(source), False
    except ValueError as error:
        if "{{" in source or "{%" in source:
            return source, True
        raise ConfigError([Problem(path, f"is not JSON: {error}")]) from None
