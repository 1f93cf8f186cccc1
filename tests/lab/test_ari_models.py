"""The models of ARI against the description that Asterisk itself serves. Why: docs/decisions/ari-models.md."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec
import pytest

from bridge.ari import model
from bridge.testing.lab_engine import Lab

PARTS = ("applications", "asterisk", "bridges", "channels", "endpoints", "events", "recordings")
SCALARS = {"string": str, "Date": str, "int": int, "long": int, "boolean": bool, "object": Any}
NAMES = {"Caller": "CallerID", "Dialplan": "DialplanCEP", "Ping": "AsteriskPing", "RtpStatistics": "RTPstat"}
"""Asterisk's names of models that have another name in the bridge."""
OF_ANY_EVENT = ("channel", "bridge")
"""`Event` has these for all types of events, described or not."""
ALWAYS_SENT = {("ChannelEnteredBridge", "channel")}
"""Described as optional, and sent with every such event."""

Described = dict[str, dict[str, Any]]


@pytest.fixture
async def described(lab: Lab) -> Described:
    """Every property of every model, by their names; of events with those that they inherit."""
    models: Described = {}
    headers = {"Authorization": aiohttp.encode_basic_auth(lab.ari_user, lab.ari_password)}
    async with aiohttp.ClientSession(headers=headers) as session:
        for part in PARTS:
            async with session.get(f"{lab.ari_url}/ari/api-docs/{part}.json") as response:
                assert response.status == 200
                document: dict[str, Described] = await response.json(content_type=None)
                models |= document["models"]
    parents = {derived: name for name, each in models.items() for derived in each.get("subTypes", ())}

    def properties(name: str) -> dict[str, Any]:
        inherited = properties(parents[name]) if name in parents else {}
        own: dict[str, Any] = models[name]["properties"]
        return inherited | own

    return {name: properties(name) for name in models}


def kinds(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for kind in base.__subclasses__():
        if not kind.__name__.startswith("_") and kind not in (model.Event, model.ChannelEvent, model.BridgeEvent):
            yield kind
        yield from kinds(kind)


def fits(ours: Any, theirs: str) -> bool:
    """Return whether a field of this type takes the described value."""
    if typing.get_origin(ours) in (types.UnionType, typing.Union):
        return any(fits(each, theirs) for each in typing.get_args(ours) if each is not type(None))
    if theirs.startswith("List["):
        return typing.get_origin(ours) is list and fits(typing.get_args(ours)[0], theirs[5:-1])
    if typing.get_origin(ours) is dict:
        return theirs in ("object", "containers")
    if isinstance(ours, type) and issubclass(ours, msgspec.Struct):
        return NAMES.get(ours.__name__, ours.__name__) == theirs
    return ours is SCALARS.get(theirs)


def test_the_comparison_can_fail() -> None:
    assert fits(list[str], "List[string]")
    assert fits(model.Caller | None, "CallerID")
    assert not fits(str, "int")
    assert not fits(list[int], "List[string]")
    assert not fits(model.Channel, "Bridge")


async def test_every_field_is_described_as_we_decode_it(described: Described) -> None:
    wrong, compared = [], 0
    for kind in kinds(model.Value):
        name = NAMES.get(kind.__name__, kind.__name__)
        for field in msgspec.structs.fields(kind):
            theirs = described[name].get(field.name)
            if theirs is None and issubclass(kind, model.Event) and field.name in OF_ANY_EVENT and not field.required:
                continue
            compared += 1
            if theirs is None:
                wrong.append(f"{name}.{field.name} is not described")
            elif field.required and not theirs.get("required") and (name, field.name) not in ALWAYS_SENT:
                wrong.append(f"{name}.{field.name} may be missing")
            elif not fits(field.type, theirs["type"]):
                wrong.append(f"{name}.{field.name} is described as {theirs['type']}")
    assert wrong == []
    assert compared > 100
