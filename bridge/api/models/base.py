"""Base classes of all models.

A *body* and a *query* are strict: unknown keys are rejected. What is *shown* holds only facts: a key for which
asterisk-bridge has no true value is omitted, so a field without a value (`maybe`) is absent, not null.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from bridge import dialects

MAX_UNKNOWN_KEYS = 20
"""Unknown keys of one object that are listed individually."""


class Body(BaseModel):
    """A JSON object in a request; types are not converted."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        defer_build=True,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _has_few_unknown_keys(cls, value: Any) -> Any:
        """Reject many unknown keys together: pydantic would create an error for each, which delays audio."""
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + MAX_UNKNOWN_KEYS:
            unknown = value.keys() - {field.alias or name for name, field in cls.model_fields.items()}
            if len(unknown) > MAX_UNKNOWN_KEYS:
                raise ValueError(f"has {len(unknown)} unknown keys, for example {min(unknown)[:80]!r}")
        return value


class Query(BaseModel):
    """The parameters of a URL, as strings; fields of other types parse one."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, hide_input_in_errors=True)

    reason: ClassVar[str] = "INVALID_QUERY"
    """For programs: the reason of the error if a parameter is wrong."""
    reasons: ClassVar[Mapping[str, str]] = {}
    """Another reason for individual parameters."""


class Shown(BaseModel):
    """A JSON object in a response."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class NoQuery(Query):
    """A request that takes no parameters in its URL."""


def name_dialects(schema: dict[str, Any]) -> None:
    """List the dialects in the schema of a field that names one."""
    schema["enum"] = sorted(dialects.known())
    schema.pop("default", None)


def maybe(**more: Any) -> Any:
    """Return a field of a response that is omitted if its value is unknown."""

    def not_null(schema: dict[str, Any]) -> None:
        schema.pop("default", None)

    return Field(default=None, json_schema_extra=not_null, **more)


def _whole(value: object) -> object:
    """Parse an integer; Python's int() also accepts spaces, underscores and digits of other scripts."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError("expected an integer")
    return value


def _switch(value: object) -> object:
    if value not in ("true", "false", True, False):
        raise ValueError("expected true or false")
    return value in ("true", True)


WholeNumber = Annotated[int, BeforeValidator(_whole)]
"""An integer in a URL."""
Switch = Annotated[bool, BeforeValidator(_switch)]
"""``true`` or ``false`` in a URL."""

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time in UTC: ``2026-01-31T11:00:00.123Z``."""
