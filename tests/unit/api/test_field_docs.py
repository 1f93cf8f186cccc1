"""Docstrings of fields in JSON schemas."""

from __future__ import annotations

from pydantic import BaseModel, Field

from bridge.api.field_docs import DocumentedSchema


class Base(BaseModel):
    """A base."""

    number: int = 0
    """Of the base.

    With a second paragraph.
    """
    changed: int = 0
    """Of the base."""


class Sample(Base):
    """A sample."""

    changed: int = 1
    """Of the sample."""
    plain: str = ""
    given: str = Field(default="", description="In the field itself.")
    """Not shown."""
    other: Base | None = Field(default=None, alias="@other")
    """Under its alias."""
    "Not a docstring of ``other``."


def test_fields_are_described_by_their_docstrings() -> None:
    found = Sample.model_json_schema(schema_generator=DocumentedSchema)
    assert {name: part.get("description") for name, part in found["properties"].items()} == {
        "number": "Of the base.\n\nWith a second paragraph.",
        "changed": "Of the sample.",
        "plain": None,
        "given": "In the field itself.",
        "@other": "Under its alias.",
    }
    assert found["$defs"]["Base"]["properties"]["changed"]["description"] == "Of the base."
