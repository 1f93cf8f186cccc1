"""Yeastar's settings calls."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.api.models.base import Body, Query, Shown, maybe

Bit = Literal[0, 1, "0", "1"]


class YeastarToken(Query):
    """Who asks."""

    access_token: str
    """One of `http.tokens`."""


class YeastarEntry(Body):
    """Something whose calls are streamed."""

    id: Any = None
    """Taken so that what is shown can be sent back."""
    subscribe_type: Literal["extension", "ext_group", "organization", "trunk", "did"]
    subscribe_id: int | str
    """Its name: an extension's or trunk's endpoint, a number, a group of `pbx.groups`."""


class YeastarUpdate(Body):
    """What is to change; keys that are left out stay as they are."""

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
    """Something whose calls are streamed."""

    id: int
    """Its place in the list, from 1."""
    subscribe_type: str
    subscribe_id: int | str


class YeastarSettings(Shown):
    """The settings as they are."""

    errcode: Literal[0]
    errmsg: Literal["SUCCESS"]
    config: YeastarConfig
    subscribe_list: list[YeastarShownEntry]


class YeastarResult(Shown):
    """Whether it was done; errors have the HTTP status 200 as well."""

    errcode: int
    """0 when all is well."""
    errmsg: Literal["SUCCESS", "FAILURE"]
    message: str = maybe()
    """What was wrong."""
