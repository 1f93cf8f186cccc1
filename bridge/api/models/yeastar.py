"""Yeastar's settings API."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.api.models.base import Body, Query, Shown, maybe

Bit = Literal[0, 1, "0", "1"]


class YeastarToken(Query):
    """The credential of a request."""

    access_token: str
    """One of `http.tokens`."""


class YeastarEntry(Body):
    """An extension, trunk or DID whose calls are streamed."""

    id: Any = None
    """Accepted to allow sending a response back."""
    subscribe_type: Literal["extension", "ext_group", "organization", "trunk", "did"]
    subscribe_id: int | str
    """Its name: an extension's or trunk's endpoint, a number, a group of `pbx.groups`."""


class YeastarUpdate(Body):
    """Values to change; omitted keys keep their values."""

    enable: Bit = maybe()
    websocket_url: Annotated[str, Field(max_length=255)] = maybe()
    auth_key: Annotated[str, Field(max_length=63)] = maybe()
    auth_value: Annotated[str, Field(max_length=255)] = maybe()
    sample_rate: Bit = maybe()
    """0: 8000 Hz, 1: 16000 Hz."""
    enable_ext: Bit = maybe()
    enable_trunk: Bit = maybe()
    enable_did: Bit = maybe()
    subscribe_list: Annotated[list[YeastarEntry], Field(max_length=1000)] = maybe()


class YeastarConfig(Shown):
    """The settings."""

    enable: int
    websocket_url: str
    auth_key: str
    auth_value: str
    """A mask, or empty."""
    sample_rate: int
    """0: 8000 Hz, 1: 16000 Hz."""
    enable_ext: int
    enable_trunk: int
    enable_did: int


class YeastarShownEntry(Shown):
    """An extension, trunk or DID whose calls are streamed."""

    id: int
    """Its number in the list, from 1."""
    subscribe_type: str
    subscribe_id: int | str


class YeastarSettings(Shown):
    """The current settings."""

    errcode: Literal[0]
    errmsg: Literal["SUCCESS"]
    config: YeastarConfig
    subscribe_list: list[YeastarShownEntry]


class YeastarResult(Shown):
    """The result; errors have the HTTP status 200 as well."""

    errcode: int
    """0 on success."""
    errmsg: Literal["SUCCESS", "FAILURE"]
    message: str = maybe()
    """Description of the error."""
