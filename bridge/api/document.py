"""The OpenAPI 3.1 document, made of the routes and their models; served at ``/openapi.json`` and, readable, ``/docs``.

Source of the format: the OpenAPI Specification 3.1.0; schemas are JSON Schema 2020-12, as pydantic makes them.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bridge.api.docs_page import page_of
from bridge.api.errors import REASONS, STATUS_WORDS
from bridge.api.field_docs import DocumentedSchema
from bridge.api.models.common import Error
from bridge.api.prebuilt import Prebuilt, page_headers
from bridge.api.routing import Operation
from bridge.flows.syntax import action_schemas

API_VERSION = "1.0"
"""The version of the interface, not of the program, which anonymous clients need not learn."""

Mode = Literal["validation", "serialization"]

_REFERENCES = "#/components/schemas/{model}"
_TOKEN_WAYS = ("bearer", "tokenQuery", "tokenCookie", "accesskeyQuery", "accesskeyCookie")

SECURITY: Mapping[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token of `http.tokens` or `[[tokens]]`."},
    "tokenQuery": {"type": "apiKey", "in": "query", "name": "token"},
    "tokenCookie": {"type": "apiKey", "in": "cookie", "name": "token"},
    "accesskeyQuery": {"type": "apiKey", "in": "query", "name": "accesskey"},
    "accesskeyCookie": {"type": "apiKey", "in": "cookie", "name": "accesskey"},
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "For one WebSocket: `POST .../tickets`.",
    },
    "yeastar": {"type": "apiKey", "in": "query", "name": "access_token", "description": "As `bearer`."},
    "twilio": {"type": "http", "scheme": "basic", "description": "`twilio.account_sid` and `twilio.auth_token`."},
    "voxology": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "`voxology.api_key`."},
}

CHAPTERS = (
    *("Calls", "Flows", "Conferences", "Recordings", "Streams", "Events", "Subscriptions"),
    *("Voxology", "Twilio", "Yeastar", "Cluster", "Bridge"),
)
"""The tags of routes, in the order in which they are shown."""

_ABOUT = """\
Everything that an Asterisk bridge does over HTTP. Errors have one shape, `Error`; decide on its `reason`, not on its
words. Every answer has a header `X-Request-Id`; the bridge's log says more under it. A path that does not exist
answers 404, a method that a path does not know 405 with a header `Allow`, a fault of the bridge 500, all in the same
shape. Lists come in pages: send `next_page_token` back as `page_token` until it is empty. Keys and parameters that
are not known are refused, not ignored.
"""


class Documents:
    """The document as JSON, and the page made of it.

    They are built in a thread, when they are first needed: it takes half a second on a slow core.

    Args:
        operations: the routes of the application.
        with_tokens: whether tokens are configured.
    """

    def __init__(self, operations: Iterable[Operation], *, with_tokens: bool) -> None:
        self._operations = list(operations)
        self._with_tokens = with_tokens
        self._built: asyncio.Future[tuple[Prebuilt, Prebuilt]] | None = None

    async def built(self) -> tuple[Prebuilt, Prebuilt]:
        """Return both."""
        if self._built is None:
            self._built = asyncio.ensure_future(asyncio.to_thread(self._build))
        return await asyncio.shield(self._built)

    def _build(self) -> tuple[Prebuilt, Prebuilt]:
        described = document_of(self._operations, with_tokens=self._with_tokens)
        html, policy = page_of(described)
        return (
            Prebuilt(json.dumps(described).encode(), "application/json"),
            Prebuilt(html.encode(), "text/html", "utf-8", page_headers(policy)),
        )


DOCUMENTS = web.AppKey("documents", Documents)


async def openapi(request: web.Request) -> web.Response:
    """``GET /openapi.json``."""
    return (await request.app[DOCUMENTS].built())[0].answer(request)


async def docs(request: web.Request) -> web.Response:
    """``GET /docs``."""
    return (await request.app[DOCUMENTS].built())[1].answer(request)


def document_of(operations: Iterable[Operation], *, with_tokens: bool) -> dict[str, Any]:
    """The document.

    Args:
        operations: the routes that there are.
        with_tokens: whether tokens are configured; without, the bridge answers this machine only and wants none.
    """
    listed = list(operations)
    schemas, references = _schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for each in listed:
        paths.setdefault(each.route.path, {})[each.route.method.lower()] = _operation(
            each, references, with_tokens=with_tokens
        )
    used = {name for each in listed for way in _security(each, with_tokens=with_tokens) for name in way}
    return {
        "openapi": "3.1.0",
        "info": {"title": "asterisk-bridge", "version": API_VERSION, "description": _ABOUT},
        "tags": [{"name": tag} for tag in CHAPTERS if tag in {each.route.tag for each in listed}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {name: scheme for name, scheme in SECURITY.items() if name in used},
        },
    }


def _schemas(operations: list[Operation]) -> tuple[dict[str, Any], Mapping[Any, Any]]:
    """The schemas by name, and where each model's is."""
    wanted: dict[tuple[type[BaseModel], Mode], None] = {(Error, "serialization"): None}
    for each in operations:
        for taken in (each.body, each.route.form):
            if taken is not None:
                wanted[(taken, "validation")] = None
        for given in (each.answer, *each.route.others.values()):
            if given is not None:
                wanted[(given, "serialization")] = None
    references, definitions = models_json_schema(
        list(wanted), ref_template=_REFERENCES, by_alias=True, schema_generator=DocumentedSchema
    )
    schemas = {name: _tidy(schema) for name, schema in definitions.get("$defs", {}).items()}
    if "PlaceCalls" in schemas:
        actions = action_schemas()
        schemas |= {name: _or_null(schema) for name, schema in actions.items()}
        schemas["PlaceCalls"]["properties"]["actions"] = {
            "type": "array",
            "maxItems": 1000,
            "description": schemas["PlaceCalls"]["properties"]["actions"]["description"],
            "items": {"anyOf": [{"$ref": _REFERENCES.format(model=name)} for name in actions]},
        }
    return schemas, references


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """An action's options may be null where they may be left out."""
    for shape in schema["oneOf"]:
        for key in {"option", "params"} & (set(shape["properties"]) - set(shape["required"])):
            shape["properties"][key] = {"anyOf": [shape["properties"][key], {"type": "null"}]}
    return schema


def _tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """Without pydantic's titles, which only repeat the names."""
    schema.pop("title", None)
    for part in schema.get("properties", {}).values():
        part.pop("title", None)
    return schema


def _operation(
    operation: Operation,
    references: Mapping[Any, Any],
    *,
    with_tokens: bool,
) -> dict[str, Any]:
    route = operation.route
    described: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [route.tag],
        "security": _security(operation, with_tokens=with_tokens),
        "responses": _responses(operation, references),
    }
    needed = f"Scope: `{route.scope}`." if route.scope is not None and route.access in ("token", "yeastar") else ""
    if route.text or needed:
        described["description"] = "\n\n".join(filter(None, (route.text, needed)))
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    if operation.query is not None and route.access == "token":
        parameters += _query_parameters(operation.query)
    if parameters:
        described["parameters"] = parameters
    for model, kind in ((operation.body, "application/json"), (route.form, "application/x-www-form-urlencoded")):
        if model is not None:
            described["requestBody"] = {
                "required": operation.body_required or route.access in ("twilio", "yeastar"),
                "content": {kind: {"schema": references[(model, "validation")]}},
            }
    return described


def _query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema(mode="validation", schema_generator=DocumentedSchema)
    parameters = []
    for name, part in schema.get("properties", {}).items():
        required = name in schema.get("required", ()) or part.pop("x-required", False)
        if required or part.get("default") == "":
            part.pop("default", None)
        part.pop("title", None)
        text = part.pop("description", "")
        parameters.append(
            {"name": name, "in": "query", "required": bool(required), "description": text, "schema": part}
        )
    return parameters


def _security(operation: Operation, *, with_tokens: bool) -> list[dict[str, list[str]]]:
    access = operation.route.access
    if access == "token":
        ways = (*_TOKEN_WAYS, "ticket") if operation.route.websocket else _TOKEN_WAYS
        return [{way: _scopes(operation)} for way in ways] if with_tokens else []
    if access == "yeastar" and not with_tokens:
        return []
    return [] if access == "public" else [{access: _scopes(operation) if access == "yeastar" else []}]


def _scopes(operation: Operation) -> list[str]:
    return [operation.route.scope] if operation.route.scope is not None else []


def _responses(operation: Operation, references: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    route = operation.route
    responses: dict[str, dict[str, Any]] = {}
    if route.websocket:
        responses["101"] = {"description": "The connection speaks WebSocket from here on."}
    elif operation.answer is not None:
        responses[str(route.success)] = {
            "description": _description(operation.answer),
            "content": {"application/json": {"schema": references[(operation.answer, "serialization")]}},
        }
    elif route.content == "application/json":
        responses["200"] = {"description": "The document.", "content": {route.content: {"schema": {"type": "object"}}}}
    elif route.content:
        kind = {"type": "string"} if route.content.startswith("text/") else {"type": "string", "format": "binary"}
        responses["200"] = {"description": "As it says.", "content": {route.content: {"schema": kind}}}
    else:
        responses[str(route.success)] = {"description": "Done; there is nothing to say."}
    if route.conditional:
        responses["200"]["headers"] = tag = {
            "ETag": {"description": "Of this content.", "required": True, "schema": {"type": "string"}}
        }
        responses["304"] = {"description": "The client has it: `If-None-Match` names its tag.", "headers": tag}
    if route.success == 201:
        where = {"description": "Where it is.", "required": True, "schema": {"type": "string"}}
        responses["201"]["headers"] = {"Location": where}
    for status, model in route.others.items():
        responses[str(status)] = {
            "description": _description(model),
            "content": {"application/json": {"schema": references[(model, "serialization")]}},
        }
    for status, reasons in operation.problems.items():
        responses[str(status)] = _problem(status, reasons, references[(Error, "serialization")])
    return dict(sorted(responses.items()))


def _problem(status: int, reasons: list[str], error: Any) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": "\n".join(f"- `{reason}`: {REASONS[reason][1]}" for reason in reasons),
        "content": {
            "application/json": {
                "schema": {
                    **error,
                    "properties": {
                        "error": {
                            "properties": {"reason": {"enum": reasons}, "status": {"const": STATUS_WORDS[status]}}
                        }
                    },
                }
            }
        },
    }
    if status in (429, 503):
        again = {"description": "Seconds after which to try again.", "required": True, "schema": {"type": "string"}}
        described["headers"] = {"Retry-After": again}
    return described


def _description(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]
