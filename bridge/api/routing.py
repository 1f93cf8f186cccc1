"""Routes as values: their inputs and outputs. The models that validate requests also describe them.

A handler's signature declares what it takes and returns::

    async def create_calls(asked: Asked[NoQuery, CreateCalls]) -> JsonResponse[CreatedCalls]: ...

The table (`bridge.api.table`) adds path, method and the route's errors; `bridge.api.document` generates the OpenAPI
document from both. Handlers with a vendor's error format take the bare request; their models are in the table.
"""

from __future__ import annotations

import asyncio
import json
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, Literal, TypeVar

from aiohttp import web
from msgspec import Struct
from pydantic import BaseModel, ValidationError

from bridge.access import Principal, Scope
from bridge.api.auth import SECRET_PARAMETERS
from bridge.api.backend import BACKEND, PRINCIPAL, Backend
from bridge.api.bodies import USUAL, BodyLimits, json_object
from bridge.api.errors import REASONS, ApiError, invalid
from bridge.api.models.base import NoQuery, Query
from bridge.api.reach import check_reach
from bridge.audit import AuditAction, LineValue
from bridge.validation import explain, sentence

QueryT_co = TypeVar("QueryT_co", bound=Query, covariant=True)
BodyT_co = TypeVar("BodyT_co", covariant=True)
ModelT_co = TypeVar("ModelT_co", bound=BaseModel, covariant=True)


class Raw(Struct, Generic[ModelT_co], frozen=True):
    """A body whose keys the handler validates itself; ``ModelT_co`` describes it."""

    value: dict[str, Any]


class Asked(Struct, Generic[QueryT_co, BodyT_co], frozen=True):
    """A validated request. ``BodyT_co`` is a model, a `Raw` one, or None where no body is read."""

    request: web.Request
    query: QueryT_co
    body: BodyT_co

    @property
    def backend(self) -> Backend:
        """The services behind the routes."""
        return self.request.app[BACKEND]

    @property
    def principal(self) -> Principal:
        """The principal of the request."""
        return self.request[PRINCIPAL]

    def note(self, **values: LineValue) -> None:
        """Add values to the request's line in the audit log; see `bridge.audit.Audit.record`."""
        note(self.request, **values)

    def path(self, name: str = "id") -> str:
        """Return a part of the path, decoded."""
        return self.request.match_info[name]


class JsonResponse(Struct, Generic[ModelT_co], frozen=True):
    """A JSON response.

    Args:
        value: an instance of the model, or the object as written; unset fields of a model are omitted.
        status: HTTP status; None: the route's.
        headers: more HTTP headers.
    """

    value: ModelT_co | Mapping[str, Any]
    status: int | None = None
    headers: Mapping[str, str] = {}


class Route(Struct, frozen=True):
    """One operation.

    Args:
        method: HTTP method; GET also serves HEAD.
        path: in the notation of aiohttp and OpenAPI.
        operation: its unique operationId.
        summary: one line.
        handler: takes `Asked` and returns `JsonResponse`, as its signature declares; or takes the bare request.
        tag: the chapter of the document.
        scope: the scope that a token needs (`bridge.access`); None: the route is public.
        reasons: the route's errors (`bridge.api.errors.REASONS`); those that follow from the rest are added.
        access: the required credential: ``token``; ``public``: none; or the name of the vendor whose it is
            (`bridge.api.vendors`).
        success: HTTP status of success.
        websocket: whether it is a WebSocket handshake.
        content: the media type of a response that is not JSON.
        limits: how large a body may be.
        conditional: whether a request with ``If-None-Match`` may return 304.
        text: the description, Markdown.
        query, body, form, answer: the models of a handler that takes the bare request.
        others: further JSON responses by status that are not errors in the common shape.
        aliases: further paths, which are not documented.
        audit: the action that the audit log records; empty: the route has no effect that is recorded.
    """

    method: str
    path: str
    operation: str
    summary: str
    handler: Callable[[Any], Awaitable[Any]]
    tag: str
    scope: Scope | None
    reasons: tuple[str, ...] = ()
    access: str = "token"
    success: int = 200
    websocket: bool = False
    content: str = ""
    limits: BodyLimits = USUAL
    conditional: bool = False
    text: str = ""
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    others: Mapping[int, type[BaseModel]] = {}
    aliases: tuple[str, ...] = ()
    audit: AuditAction | Literal[""] = ""


class Operation(Struct, frozen=True):
    """A route and the models of its handler's signature."""

    route: Route
    typed: bool
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    raw: bool
    answer: type[BaseModel] | None

    @property
    def problems(self) -> dict[int, list[str]]:
        """Return every error in the common shape that it may return, by status."""
        reasons = list(self.route.reasons)
        if self.route.access == "token" or (self.typed and self.route.access != "public"):
            reasons += ["AUTHENTICATION_REQUIRED", "INVALID_CREDENTIALS", "TOO_MANY_FAILURES"]
        if self.route.access == "token":
            reasons += ["HOST_NOT_LOCAL", "PROXY_NOT_ALLOWED", "ORIGIN_NOT_ALLOWED", "SCOPE_MISSING"]
            if self.typed and self.query is not None:
                reasons += reasons_of_query(self.query)
        if self.body is not None and self.typed:
            reasons += [
                "INVALID_JSON",
                "JSON_REQUIRED",
                "CONTENT_ENCODING_UNSUPPORTED",
                "REQUEST_ENTITY_TOO_LARGE",
                "REQUEST_TIMEOUT",
                *(() if self.raw else ["INVALID_BODY"]),
            ]
        if self.route.websocket:
            reasons += ["INVALID_WEBSOCKET_KEY", "WEBSOCKET_REQUIRED", "WEBSOCKET_VERSION"]
        found: dict[int, list[str]] = {}
        for reason in dict.fromkeys(reasons):
            found.setdefault(REASONS[reason][0], []).append(reason)
        return dict(sorted(found.items()))

    @property
    def body_required(self) -> bool:
        """Return whether a request without a body is invalid."""
        return self.body is not None and any(each.is_required() for each in self.body.model_fields.values())


def operation_of(route: Route) -> Operation:
    """Return the operation of a route."""
    hints = typing.get_type_hints(route.handler)
    asked = hints.get("asked")
    if asked is None:
        return Operation(route, False, route.query, route.body, False, route.answer)
    query, body = typing.get_args(asked)
    raw = typing.get_origin(body) is Raw
    if raw:
        (body,) = typing.get_args(body)
    given = hints["return"]
    answer = typing.get_args(given)[0] if typing.get_origin(given) is JsonResponse else None
    return Operation(route, True, query, None if body is type(None) else body, raw, answer)


def reasons_of_query(model: type[BaseModel]) -> list[str]:
    """Return the errors that a query of this kind can cause."""
    if not issubclass(model, Query):
        return []
    return [model.reason, *model.reasons.values()]


def register(
    router: web.UrlDispatcher, operations: dict[Any, Operation], routes: Iterable[Route], *, strict: bool
) -> None:
    """Add routes to a router.

    Args:
        router: the router.
        operations: gets the operation of each route, by its handler in the router.
        routes: the routes.
        strict: whether a response that the document does not describe is an error; for tests.
    """
    for each in map(operation_of, routes):
        endpoint = _endpoint(each, strict=strict)
        for path in (each.route.path, *each.route.aliases):
            if each.route.method == "GET":
                router.add_get(path, endpoint, allow_head=not each.route.websocket)
            else:
                router.add_route(each.route.method, path, endpoint)
        operations[endpoint] = each


class LateRoutes(web.PlainResource):
    """The routes that the first request other than a probe needs: importing their handlers and models takes long.

    Args:
        load: imports the modules; called in a thread, as calls have audio meanwhile.
        fill: adds the routes to a router.
    """

    def __init__(self, load: Callable[[], object], fill: Callable[[web.UrlDispatcher], None]) -> None:
        super().__init__("/")  # aiohttp queries it for all paths below
        self._load = load
        self._fill = fill
        self._router: web.UrlDispatcher | None = None

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Return the match of a request; overrides aiohttp's."""
        if self._router is None:
            await asyncio.to_thread(self._load)
        found = await self.router.resolve(request)
        return (None if isinstance(found.http_exception, web.HTTPNotFound) else found), set()

    @property
    def router(self) -> web.UrlDispatcher:
        """The router of these routes."""
        if self._router is None:
            self._router = web.UrlDispatcher()
            self._fill(self._router)
        return self._router


def note(request: web.Request, **values: LineValue) -> None:
    """Add the objects of a request to its line in the audit log."""
    request[NOTES] = request.get(NOTES, {}) | values


def read_query(model: type[QueryT_co], query: Mapping[str, str]) -> QueryT_co:
    """Return the parameters of a URL.

    Raises:
        ApiError: 400, one of them is unknown, missing, wrong, or given twice.
    """
    # items() returns parameters given twice, iterating over the query itself does not.
    names = [name for name, _ in query.items() if name not in SECRET_PARAMETERS]
    for name in names:
        if names.count(name) > 1:
            raise invalid(model.reasons.get(name, model.reason), f"{name[:80]} is given more than once")
    try:
        return model.model_validate({name: query[name] for name in names})
    except ValidationError as problem:
        place = problem.errors(include_url=False)[0]["loc"]
        reason = model.reasons.get(str(place[0]), model.reason) if place else model.reason
        raise invalid(reason, sentence(explain(problem, model))) from None


async def read_body(model: type[BaseModel], request: web.Request, limits: BodyLimits) -> BaseModel:
    """Read the body of a request; without a body it has the model's defaults, if no key is required.

    Args:
        model: the model of the body.
        request: the request.
        limits: how large it may be.

    Raises:
        ApiError: 400, 408, 413 or 415.
    """
    # A body that was already read (to find the object that it names) is stored in the request.
    there = request.can_read_body or (request.body_exists and await request.read())
    if not there and not any(each.is_required() for each in model.model_fields.values()):
        return model()
    body = await json_object(request, limits)
    try:
        return model.model_validate(body)
    except ValidationError as problem:
        raise invalid("INVALID_BODY", sentence(explain(problem, model))) from None


def _endpoint(operation: Operation, *, strict: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    handler, success = operation.route.handler, operation.route.success

    async def answer(request: web.Request) -> web.StreamResponse:
        request[HANDLED] = True
        try:
            check_reach(operation.route.path, request)
            result = await handler(await _asked(operation, request) if operation.typed else request)
        except ApiError as error:
            documented = operation.problems.get(error.status, ())
            if strict and error.reason not in documented and error.status not in operation.route.others:
                raise AssertionError(f"{operation.route.operation}: {error.reason} is not documented") from error
            raise
        if isinstance(result, JsonResponse):
            result = _response(result, success)
        if strict:
            _check(operation, result)
        return typing.cast(web.StreamResponse, result)

    return answer


async def _asked(operation: Operation, request: web.Request) -> Asked[Query, object]:
    query: Query = NoQuery()
    if operation.query is not None and issubclass(operation.query, Query) and operation.route.access == "token":
        query = read_query(operation.query, request.query)
    body: object = None
    if operation.raw:
        body = Raw(await json_object(request, operation.route.limits))
    elif operation.body is not None:
        body = await read_body(operation.body, request, operation.route.limits)
    return Asked(request, query, body)


def _response(answer: JsonResponse[BaseModel], success: int) -> web.Response:
    if isinstance(answer.value, BaseModel):
        text = answer.value.model_dump_json(exclude_unset=True, by_alias=True)
    else:
        text = json.dumps(answer.value, default=_plain)
    return web.Response(
        text=text, status=answer.status or success, content_type="application/json", headers=answer.headers
    )


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True, by_alias=True)
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def _check(operation: Operation, response: object) -> None:
    """Check that the document describes a response."""
    if not isinstance(response, web.Response) or operation.route.websocket:
        return  # it has been sent
    if response.status == 304 and operation.route.conditional:
        return
    name = operation.route.operation
    model = operation.route.others.get(response.status)
    if model is None and response.status == operation.route.success:
        model = operation.answer
        if model is None:
            wanted = operation.route.content or "application/octet-stream"
            assert response.content_type == wanted.partition(";")[0], name
            return
    assert model is not None, f"{name}: status {response.status} is not documented"
    assert response.content_type == "application/json", name
    try:
        model.model_validate_json(typing.cast(bytes, response.body), strict=True)
    except ValidationError as problem:
        raise AssertionError(f"{name}: {problem}") from None


OPERATIONS: web.AppKey[dict[Any, Operation]] = web.AppKey("operations")
LATE = web.AppKey("late", LateRoutes)
"""Operations by aiohttp's handler."""
NOTES = web.RequestKey("notes", dict[str, LineValue])
"""Values that handlers add to the line of a request in the audit log."""
HANDLED = web.RequestKey("handled", bool)
"""The request has reached its handler: it was not rejected for a missing scope."""
RECORDED = web.RequestKey("recorded", bool)
"""The request is in the audit log already: what it opened records its own start and end, or another worker does."""
