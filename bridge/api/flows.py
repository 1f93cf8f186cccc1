"""``/v1.0/flows``: the configured flows; and Voxology's request that creates a call which runs one."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from bridge import dialects
from bridge.access import Principal, Scope
from bridge.api.backend import BACKEND
from bridge.api.calls import flow_not_found, refused
from bridge.api.errors import ApiError
from bridge.api.exception_mapping import asterisk_failing, calling
from bridge.api.models.base import NoQuery
from bridge.api.models.flows import DialConnect, DialedCall, Flow, Flows
from bridge.api.routing import Asked, JsonResponse
from bridge.api.vendor import Vendor
from bridge.api.views import call_json
from bridge.config import FlowConfig
from bridge.masking import MASK, mask, mask_url


async def list_flows(asked: Asked[NoQuery, None]) -> JsonResponse[Flows]:
    """List the configured flows."""
    return JsonResponse({"result": [flow_json(each) for each in _flows(asked)]})


async def get_flow(asked: Asked[NoQuery, None]) -> JsonResponse[Flow]:
    """Get a configured flow."""
    for each in _flows(asked):
        if each.id == asked.path():
            return JsonResponse(flow_json(each))
    raise flow_not_found(asked.path())


async def dial_connect(asked: Asked[NoQuery, DialConnect]) -> JsonResponse[DialedCall]:
    """Call a number, and run ``voxology.flow`` when it answers."""
    body = asked.body
    asked.note(destinations=[f"tel {body.call.no}"], source=body.call.caller_id_no)
    parts = calling(asked.backend)
    try:
        with asterisk_failing():
            record = await parts.flow_manager.dial_connect(
                body.call.no,
                principal=asked.principal,
                caller_id=body.call.caller_id_no,
                session_data=body.session_data,
                timeout_s=body.timeout,
                max_call_s=body.max_call_time,
            )
    except LookupError as error:
        raise ApiError(404, "FLOW_NOT_FOUND", str(error.args[0])) from None
    except ValueError as error:
        raise refused(error) from None
    asked.note(calls=[record.id])
    return JsonResponse({"call_id": record.id, "call": call_json(asked.backend.calls.calls.get(record.id), 0, record)})


def check_key(request: web.Request) -> None:
    """Check that a request contains ``voxology.api_key``.

    Raises:
        ApiError: 401, the key is missing or wrong.
    """
    parts = request.app[BACKEND].calling
    assert parts is not None  # otherwise its route does not exist
    assert parts.voxology is not None
    key = parts.voxology.api_key.get_secret_value()
    offered = request.headers.get("x-api-key", "")
    if not offered:
        raise ApiError(401, "AUTHENTICATION_REQUIRED", "this request needs a key in the header x-api-key")
    if not hmac.compare_digest(offered.encode("utf-8", "surrogateescape"), key.encode()):
        raise ApiError(401, "INVALID_CREDENTIALS", "x-api-key is not the configured key")


def flow_json(flow: FlowConfig) -> dict[str, Any]:
    """Return the JSON of a configured flow, with secrets masked."""
    body: dict[str, Any] = {"id": flow.id, "match": list(flow.match), "then": flow.then}
    if flow.url:
        body |= {"url": mask_url(flow.url), "method": flow.method}
        body |= {"syntax": flow.syntax, "auth_key": flow.auth_key}
        body["auth_value"] = MASK if flow.auth_value.get_secret_value() else ""
    elif flow.file:
        body["file"] = flow.file
    else:
        body["actions"] = mask(flow.actions, shown=dialects.shown_options())
    return body


def _flows(asked: Asked[NoQuery, None]) -> Sequence[FlowConfig]:
    parts = asked.backend.calling
    assert parts is not None  # otherwise its routes do not exist
    return parts.flows()


def _served(application: web.Application) -> bool:
    parts = application[BACKEND].calling
    return parts is not None and parts.voxology is not None and bool(parts.voxology.api_key.get_secret_value())


VENDOR = Vendor(
    "voxology",
    "/v1/Dials/",
    _served,
    {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "`voxology.api_key`."},
    principal=Principal("voxology", scopes=frozenset[Scope]({"calls:originate"})),
    check=check_key,
)
