"""Errors, pages of lists, addresses: what many routes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, model_validator

from bridge.api.models.base import Body, Query, Shown, WholeNumber
from bridge.calls.addresses import Address as CallAddress
from bridge.calls.addresses import AddressType

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_TEXT = 255
MAX_TOKEN = 1024


class Problem(Shown):
    """What was wrong."""

    status: str
    """A broad class, for example `NOT_FOUND`."""
    reason: str
    """For programs to decide on, for example `CALL_NOT_FOUND`."""
    message: str
    """For people: what is wrong and what is expected. The wording may change."""
    request_id: str
    """Under this id the bridge's log says more."""


class Error(Shown):
    """Every error has this shape."""

    error: Problem


class Paging(Query):
    """Which page of a list."""

    reasons: ClassVar[Mapping[str, str]] = {"page_size": "INVALID_PAGE_SIZE", "page_token": "INVALID_PAGE_TOKEN"}

    page_size: Annotated[WholeNumber, Field(ge=1, le=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE
    """How many entries a page has at most."""
    page_token: Annotated[str, Field(max_length=MAX_TOKEN, pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """The `next_page_token` of the page before; none: the first page."""


class Page(Shown):
    """One page of a list."""

    next_page_token: str
    """Asks for the next page; empty on the last one."""


class Address(Body):
    """One end of a call."""

    type: AddressType = ""
    """`tel`: a number outside; `sip`: a SIP URI; `extension`: a phone of this PBX; `conference`: a conference's id."""
    target: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """The number, URI, extension or id."""
    target_name: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """The name that goes with it: what a called phone shows."""
    name: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """What you call it; kept and told."""
    detail: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """Likewise."""

    def value(self) -> CallAddress:
        """As the rest of the bridge has it."""
        return CallAddress(self.type, self.target, self.target_name, self.name, self.detail)


def _target_or_name(schema: dict[str, Any]) -> None:
    del schema["required"]
    properties = {"type": {"const": "extension"}, "target_name": {"minLength": 1}}
    named = {"properties": properties, "required": ["type", "target_name"]}
    schema["anyOf"] = [{"required": ["target"]}, named]


class Destination(Address):
    """Whom to call. An extension may be named by its `target_name` alone, as VoIPBIN's clients do."""

    model_config = ConfigDict(json_schema_extra=_target_or_name)

    target: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    """The number, URI, extension or id."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("type") == "extension" and given.get("target_name"):
            return {**given, "target": given.get("target") or given["target_name"]}
        return given


class ShownAddress(Shown):
    """One end of a call."""

    type: str
    """`tel`, `sip`, `extension`, `conference`; empty for a number of which nothing more is known."""
    target: str
    """The number, URI, extension or conference."""
    target_name: str
    """The name that goes with it."""
    name: str
    """As it was given."""
    detail: str
    """As it was given."""
