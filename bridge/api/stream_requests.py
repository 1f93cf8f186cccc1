"""Requests that the client of a call's media stream sends in it: hang-up and transfer, as over HTTP.

Each is an operation of the table (`bridge.api.table`): scope, reach, rules for destinations and the line of the audit
log are those of the HTTP route.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

from aiohttp import web
from pydantic import ValidationError

from bridge.access import Principal
from bridge.api.auditing import call_and_party, record_operation
from bridge.api.backend import ACCEPTS, BACKEND, OPERATE
from bridge.api.background import BACKGROUND
from bridge.api.calls import ended, transferred
from bridge.api.errors import ApiError, invalid
from bridge.api.exception_mapping import calling
from bridge.api.models.calls import Transfer
from bridge.api.reach import check_reach_of, check_scope
from bridge.api.routing import OPERATIONS, Route
from bridge.audit import LineValue
from bridge.dialects.base import CallRequest
from bridge.logs import Fields, cause
from bridge.streams.origin import Origin
from bridge.validation import explain, sentence

log = logging.getLogger(__name__)

OPERATION: Final = {"hangup": "hangupCall", "transfer": "transferCall"}
"""The operation of each request, by its name; the name is also the end of the operation's path."""
POLL_S = 0.02
STALLED_S = 2.0
"""Queued audio that is not played this many seconds after it should have been is not waited for."""
UNDERWAY_S = 0.3
"""Time that the last audio takes through Asterisk, in seconds."""


class RequestingStream(Protocol):
    """The interface of the stream whose client sends requests."""

    stream_id: str
    origin: Origin

    @property
    def ended(self) -> bool:
        """Whether the stream has ended."""

    @property
    def queued_ms(self) -> float:
        """Audio that waits to be played into the call, in milliseconds."""

    def request_answered(self, name: str, answer: Mapping[str, Any], error: str = "") -> None:
        """Report the outcome of a request to the client."""


class StreamRequests:
    """Executes the requests of one stream's client, one at a time.

    Args:
        app: the application that serves the API.
        principal: who opened the stream; of a ticket, with the ticket's scopes.
    """

    def __init__(self, app: web.Application, principal: Principal) -> None:
        self._app = app
        self._principal = principal
        self._task: asyncio.Task[None] | None = None

    def __call__(self, stream: RequestingStream, request: CallRequest) -> None:
        """Begin to execute a request; the outcome is reported to the client."""
        if self._task is not None and not self._task.done():
            _answer(stream, request, ApiError(409, "STATE_INVALID", "another request of this stream has not ended yet"))
            return
        about = Fields(stream=stream.stream_id, doing=request.name)
        self._task = self._app[BACKGROUND].spawn(self._execute(stream, request), about)

    async def _execute(self, stream: RequestingStream, request: CallRequest) -> None:
        backend, identity = self._app[BACKEND], stream.origin.party_id
        operations = (each.route for each in self._app[OPERATIONS].values())
        route = next((each for each in operations if each.operation == OPERATION[request.name]), None)
        values: dict[str, LineValue] = {**call_and_party(backend, identity), "stream": stream.stream_id}
        values |= {"status": 500, "reason": "INTERNAL_ERROR"}
        rejected = recorded = False
        error: ApiError | None = None
        result: Mapping[str, Any] = {}
        try:
            rejected = True
            route = self._check(route, request)
            rejected = False
            check_reach_of(route.path, backend, self._principal, identity)
            if request.after_playout:
                await _played(stream)
                if not self._app[ACCEPTS](self._principal):
                    raise ApiError(401, "INVALID_CREDENTIALS", "the token is no longer valid")
            result, recorded = await self._operate(stream, request, values)
            values |= {"status": route.success, "reason": ""}
        except ApiError as problem:
            error = problem
            values |= {"status": problem.status, "reason": problem.reason}
        except asyncio.CancelledError:
            values["reason"] = "CANCELLED"
            raise
        except Exception:
            log.exception("request of a stream failed, an internal error stream=%s", stream.stream_id)
            error = ApiError(500, "INTERNAL_ERROR", "an internal error; the log has the details")
        finally:
            if not recorded:
                record_operation(backend.audit, route, self._principal, values, rejected=rejected)
        _log(stream, request, error)
        if error is not None:
            _answer(stream, request, error)
        elif result:  # the answer to a hang-up is the end of the stream
            stream.request_answered(request.name, result)

    def _check(self, route: Route | None, request: CallRequest) -> Route:
        """Check the principal's scopes; return the operation's route."""
        if route is None:
            raise ApiError(409, "STATE_INVALID", f"{request.name} is not available: this server does not control calls")
        check_scope(self._principal, route.scope, f", which {request.name} needs (no ticket has it)")
        return route

    async def _operate(
        self, stream: RequestingStream, request: CallRequest, values: dict[str, LineValue]
    ) -> tuple[Mapping[str, Any], bool]:
        """Return the answer to the client, and whether another process has recorded the operation."""
        calling(self._app[BACKEND])
        identity, elsewhere = stream.origin.party_id, self._app.get(OPERATE)
        body = {"destination": request.destination} if request.name == "transfer" else {}
        if elsewhere is not None and (answered := await elsewhere(self._principal, identity, request.name, body)):
            status, found = answered
            if status >= 400:
                raise ApiError(status, found["error"]["reason"], found["error"]["message"])
            return _shown(request, found), True
        if request.name == "hangup":
            await ended(self._app[BACKEND], identity)
            return {}, False
        try:
            transfer = Transfer.model_validate(body)
        except ValidationError as problem:
            raise invalid("INVALID_BODY", sentence(explain(problem, Transfer))) from None
        call = await transferred(*(self._app, self._principal, identity, transfer), lambda **more: values.update(more))
        assert isinstance(call.value, Mapping)
        return _shown(request, call.value), False


def _shown(request: CallRequest, call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the facts about the call that the client receives."""
    return {"call_id": call["id"], "status": call["status"]} if request.name == "transfer" else {}


async def _played(stream: RequestingStream) -> None:
    """Wait until the audio that is queued now was played; what is queued later is not waited for."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + stream.queued_ms / 1000 + STALLED_S
    while loop.time() < deadline:
        if stream.queued_ms <= 0 or stream.ended:
            break
        await asyncio.sleep(POLL_S)
    await asyncio.sleep(UNDERWAY_S)


def _answer(stream: RequestingStream, request: CallRequest, error: ApiError) -> None:
    stream.request_answered(request.name, {"reason": error.reason}, error.message)


def _log(stream: RequestingStream, request: CallRequest, error: ApiError | None) -> None:
    if error is None:
        log.info("request of a stream executed stream=%s doing=%s", stream.stream_id, request.name)
        return
    log.warning(
        "request of a stream failed stream=%s doing=%s error=%s",
        *(stream.stream_id, request.name, error),
        extra=cause(f"{stream.stream_id} {request.name}"),
    )
