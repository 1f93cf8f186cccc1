"""Yeastar's own settings API, for its administrators' scripts: they manage one subscription, ``yeastar``.

    GET  /openapi/v1.0/websocketaudiostream/get?access_token=..
    POST /openapi/v1.0/websocketaudiostream/update?access_token=..

The access token is one of ``http.tokens``. Ids are names: an extension's or trunk's endpoint, a DID's number, a group
of ``pbx.groups``. Keys that an update omits keep their values. Source: Yeastar P-Series Developer Guide, "Get/Edit
WebSocket Audio Streaming Setting"; of the error codes it contains 0 only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from bridge.access import Principal
from bridge.api.backend import PRINCIPAL, SUBSCRIPTIONS
from bridge.api.bodies import BodyLimits, json_object
from bridge.api.errors import ApiError
from bridge.api.routing import note
from bridge.api.subscriptions import same_server
from bridge.api.vendor import Vendor
from bridge.config.values import server_of
from bridge.masking import MASK, mask_url
from bridge.streams.subscription import GROUP_PREFIX, Subscription, values_of
from bridge.streams.subscription_store import StoreFailed
from bridge.validation import explain, sentence

PREFIX = "/openapi/v1.0/"
SUBSCRIPTION_ID = "yeastar"
RATES = (8000, 16000)
"""By the value of ``sample_rate``."""
MAX_URL_CHARACTERS = 255
MAX_VALUE_CHARACTERS = 255
MAX_ENTRIES = 1000
LIMITS = BodyLimits(values=MAX_ENTRIES * 4)
"""Each entry has a type and an id; scripts also send ``id`` back."""

NO_INTERFACE = 10001
BAD_TOKEN = 10004
BAD_SYNTAX = 40001
SERVER_ERROR = -2
BAD_PARAMETER = 40002
NOT_SAVED = 50001

_SWITCHES = {"enable_ext": "extensions", "enable_trunk": "trunks", "enable_did": "dids"}
_KINDS = {
    "extension": "extensions",
    "ext_group": "extensions",
    "organization": "extensions",
    "trunk": "trunks",
    "did": "dids",
}
_TEXTS = {
    "websocket_url": ("url", MAX_URL_CHARACTERS),
    "auth_key": ("auth_key", 63),
    "auth_value": ("auth_value", MAX_VALUE_CHARACTERS),
}
_KNOWN = {"enable", "sample_rate", "subscribe_list", *_TEXTS, *_SWITCHES}


async def get_settings(request: web.Request) -> web.Response:
    """``GET ../get``."""
    try:
        subscription = request.app[SUBSCRIPTIONS].get(SUBSCRIPTION_ID)
    except KeyError:
        subscription = _initial()
    return web.json_response({"errcode": 0, "errmsg": "SUCCESS"} | settings_of(subscription))


async def update_settings(request: web.Request) -> web.Response:
    """``POST ../update``: an error changes nothing."""
    note(request, subscription=SUBSCRIPTION_ID)
    try:
        body = await json_object(request, LIMITS)
        subscription = await request.app[SUBSCRIPTIONS].change(
            SUBSCRIPTION_ID, lambda now: _updated(now or _initial(), body, request[PRINCIPAL])
        )
    except (ApiError, ValueError) as error:
        note(request, reason="BAD_PARAMETER")  # the HTTP status is always 200 here
        return failure(BAD_PARAMETER, str(error))
    except StoreFailed as error:
        note(request, reason="STATE_NOT_KEPT")
        return failure(NOT_SAVED, str(error))
    note(request, application=server_of(subscription.url), enabled=subscription.enabled)
    return web.json_response({"errcode": 0, "errmsg": "SUCCESS"})


def failure(code: int, message: str, status: int = 200) -> web.Response:
    """Return an error in Yeastar's shape, with a message. Its errors have the HTTP status 200."""
    return web.json_response({"errcode": code, "errmsg": "FAILURE", "message": message}, status=status)


def _of_api_error(_: web.Request, error: ApiError) -> web.Response:
    """Return an error of the API in Yeastar's shape, with its own HTTP status."""
    if error.status in (401, 403, 429):
        return failure(BAD_TOKEN, f"access_token: {error.message}", error.status)
    codes = {404: NO_INTERFACE, 405: NO_INTERFACE}
    code = codes.get(error.status, BAD_SYNTAX if error.status < 500 else SERVER_ERROR)
    return failure(code, error.message, error.status)


def settings_of(subscription: Subscription) -> dict[str, Any]:
    """Return ``config`` and ``subscribe_list`` of the response to ``get``."""
    entries: list[tuple[str, str]] = []
    for name in subscription.extensions:
        group = name.startswith(GROUP_PREFIX)
        entries.append(("ext_group", name.removeprefix(GROUP_PREFIX)) if group else ("extension", name))
    entries += [("trunk", name) for name in subscription.trunks]
    entries += [("did", name) for name in subscription.dids]
    config: dict[str, Any] = {
        "enable": int(subscription.enabled),
        "websocket_url": mask_url(subscription.url),
        "auth_key": subscription.auth_key,
        "auth_value": MASK if subscription.auth_value.get_secret_value() else "",
        "sample_rate": RATES.index(subscription.sample_rate or RATES[0]),
    }
    config |= {switch: int(kind not in subscription.ignored) for switch, kind in _SWITCHES.items()}
    return {
        "config": config,
        "subscribe_list": [
            {"id": number, "subscribe_type": kind, "subscribe_id": _id_of(name)}
            for number, (kind, name) in enumerate(entries, 1)
        ],
    }


def _initial() -> Subscription:
    """Return the settings before anything was set: all switches off."""
    return Subscription(
        id=SUBSCRIPTION_ID,
        name="Yeastar's settings API",
        enabled=False,
        url="",
        dialect="yeastar",
        sample_rate=RATES[0],
        ignored=tuple(_SWITCHES.values()),  # type: ignore[arg-type]
        source="yeastar",
    )


def _updated(now: Subscription, body: Mapping[str, Any], principal: Principal) -> Subscription:
    """Return the subscription after an update.

    Raises:
        ValueError: a value in the body is invalid; the message names it.
    """
    values = values_of(now) | _changes(now, body) | {"principal": principal.id}
    if values["url"] == mask_url(now.url):
        values["url"] = now.url
    if values["auth_value"] == MASK:
        values["auth_value"] = now.auth_value.get_secret_value()
    try:
        updated = Subscription.model_validate(values)
    except ValidationError as problem:
        raise ValueError(sentence(explain(problem, Subscription, described=True))) from None
    kept = now.auth_value.get_secret_value() and body.get("auth_value", MASK) == MASK
    if kept and updated.url and not same_server(now.url, updated.url):
        raise ValueError("auth_value: required, as the new URL names another server")
    return updated


def _changes(now: Subscription, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the subscription's fields that a body sets.

    Raises:
        ValueError: a key or its value is invalid; the message names it.
    """
    changes: dict[str, Any] = {}
    for key in body:
        if key not in _KNOWN:
            raise ValueError(f"{key[:40]}: unknown key; expected {', '.join(sorted(_KNOWN))}")
    for key, (field, limit) in _TEXTS.items():
        if key in body:
            if not isinstance(body[key], str) or len(body[key]) > limit:
                raise ValueError(f"{key}: expected a string of at most {limit} characters")
            changes[field] = body[key]
    if "enable" in body:
        changes["enabled"] = bool(_choice(body, "enable"))
    if "sample_rate" in body:
        changes["sample_rate"] = RATES[_choice(body, "sample_rate")]
    ignored: set[str] = set(now.ignored)
    for key, kind in _SWITCHES.items():
        if key in body:
            (ignored.discard if _choice(body, key) else ignored.add)(kind)
    changes["ignored"] = sorted(ignored)
    if "subscribe_list" in body:
        changes |= _lists(body["subscribe_list"])
    return changes


def _lists(entries: object) -> dict[str, list[str]]:
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise ValueError(f"subscribe_list: expected a list of at most {MAX_ENTRIES} objects")
    found: dict[str, dict[str, None]] = {"extensions": {}, "trunks": {}, "dids": {}}  # each name once, in order
    for number, entry in enumerate(entries):
        kind = entry.get("subscribe_type") if isinstance(entry, dict) else None
        name = entry.get("subscribe_id") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ValueError(f"subscribe_list[{number}].subscribe_type: expected one of {', '.join(_KINDS)}")
        if isinstance(name, bool) or not isinstance(name, int | str) or not str(name).strip():
            raise ValueError(f"subscribe_list[{number}].subscribe_id: expected a number or a string")
        is_group = kind in ("ext_group", "organization")
        text = (GROUP_PREFIX if is_group else "") + str(name).strip()
        found[_KINDS[kind]][text] = None
    return {kind: list(names) for kind, names in found.items()}


def _choice(body: Mapping[str, Any], key: str) -> int:
    if body[key] not in (0, 1, "0", "1"):
        raise ValueError(f"{key}: expected 0 or 1")
    return int(body[key])


def _id_of(name: str) -> int | str:
    """Return an id in the form of Yeastar's scripts: a number if that loses nothing."""
    return int(name) if name.isascii() and name.isdigit() and len(name) < 16 and str(int(name)) == name else name


VENDOR = Vendor(
    "yeastar",
    PREFIX,
    lambda application: SUBSCRIPTIONS in application,
    {"type": "apiKey", "in": "query", "name": "access_token", "description": "As `bearer`."},
    _of_api_error,
)
