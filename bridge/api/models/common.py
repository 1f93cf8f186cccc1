"""Errors, pages of lists, addresses: shared by many routes."""

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
    """Details of an error."""

    status: str
    """A broad class, for example `NOT_FOUND`."""
    reason: str
    """A constant for programs, for example `CALL_NOT_FOUND`."""
    message: str
    """For people: what is wrong and what is expected. May change."""
    request_id: str
    """The log has details of the error under this id."""


class Error(Shown):
    """The shape of every error."""

    error: Problem


class Paging(Query):
    """The page of a list to return."""

    reasons: ClassVar[Mapping[str, str]] = {"page_size": "INVALID_PAGE_SIZE", "page_token": "INVALID_PAGE_TOKEN"}

    page_size: Annotated[WholeNumber, Field(ge=1, le=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE
    """The largest number of entries on a page."""
    page_token: Annotated[str, Field(max_length=MAX_TOKEN, pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """The `next_page_token` of the previous page; none: the first page."""


class Page(Shown):
    """One page of a list."""

    next_page_token: str
    """Send it to get the next page; empty on the last one."""


class Address(Body):
    """The address of a caller or called party."""

    type: AddressType = ""
    """`tel`: an external number; `sip`: a SIP URI; `extension`: a phone of this PBX; `conference`: a conference's
    id."""
    target: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """The number, URI, extension or id."""
    target_name: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """The display name, which a called phone shows."""
    name: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """A name of your choice; stored and returned."""
    detail: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """Text of your choice; stored and returned."""

    def value(self) -> CallAddress:
        """Convert the address to the address type of the other packages."""
        return CallAddress(self.type, self.target, self.target_name, self.name, self.detail)


def _target_or_name(schema: dict[str, Any]) -> None:
    del schema["required"]
    properties = {"type": {"const": "extension"}, "target_name": {"minLength": 1}}
    named = {"properties": properties, "required": ["type", "target_name"]}
    schema["anyOf"] = [{"required": ["target"]}, named]


class Destination(Address):
    """A destination. An extension may be given by its `target_name` alone, as VoIPBIN's clients do."""

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
    """The address of a caller or called party."""

    type: str
    """`tel`, `sip`, `extension`, `conference`; empty if the type of a number is unknown."""
    target: str
    """The number, URI, extension or conference."""
    target_name: str
    """The display name."""
    name: str
    """As given in the request."""
    detail: str
    """As given in the request."""
