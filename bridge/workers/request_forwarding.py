"""HTTP requests that concern other workers too: sent to all, or forwarded to the one that has the requested object.

Workers query each other over Unix sockets, whose application answers a request itself and forwards nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import yarl
from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.access import ANONYMOUS, CONFIGURATION, Principal
from bridge.api import twilio, yeastar
from bridge.api.admission import PRINCIPAL_HEADER, carried
from bridge.api.backend import BACKEND, PRINCIPAL
from bridge.api.bodies import json_object, whole_body
from bridge.api.errors import ApiError, unavailable
from bridge.api.metrics import CONTENT_TYPE
from bridge.api.models.common import Paging
from bridge.api.routing import RECORDED
from bridge.errors import AriError
from bridge.logs import cause
from bridge.outbound.headers import USER_AGENT
from bridge.tasks import BackgroundTasks
from bridge.workers import merging
from bridge.workers.peer_workers import PeerWorker, PeerWorkers

log = logging.getLogger(__name__)

ASK_S = 3.0
"""How long a worker may take to report what it has; a list omits one that takes longer."""
PASS_ON_S = 120.0
"""The same for a request that it executes."""
RETRY_AFTER_S = 1
LARGE = 1 << 20
"""Responses of more bytes, or of unknown length, are forwarded in blocks."""
PAGED = {"/v1.0/calls": "tm_create", "/v1.0/recordings": "tm_start", "/v1.0/conferences": "tm_create"}
"""Lists, and the time of their entries by which they are sorted."""
_CALL, _CONFERENCE = "/v1.0/calls/{id}", "/v1.0/conferences/{id}"
_NOT_PASSED_ON = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "host", "origin"}
) | {"sec-fetch-site", "sec-fetch-mode", "cookie", "expect", "authorization", PRINCIPAL_HEADER.lower()}
_SET_ANEW = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}) | {
    *("x-request-id", "x-content-type-options", "cache-control")
}


class RequestForwarder:
    """The other workers, for this one's HTTP server.

    Args:
        view: the workers.
        owner: returns the worker of a call, by its id or that of one of its channels.
    """

    def __init__(self, view: PeerWorkers, owner: Callable[[str], int]) -> None:
        self._view = view
        self._owner = owner
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._closing = BackgroundTasks("peers")

    async def close(self) -> None:
        """Close the connections to the other workers."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()
        await self._closing.stop()

    def tidy(self) -> None:
        """Close connections to workers that no longer exist."""
        there = {each.socket for each in self._view.peers}
        for path in set(self._sessions) - there:
            self._closing.spawn(self._sessions.pop(path).close())

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request, together with the other workers if it concerns them."""
        answer = await self._answer(request, handler)
        if not answer.prepared:
            answer.headers["X-Worker"] = str(self._view.number)
        return answer

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = "/" + resource.canonical.lstrip("/") if resource is not None else ""  # aliases begin with two slashes
        if request.method in ("GET", "HEAD") and path in (*PAGED, "/v1.0/streams", "/metrics", "/health", twilio.CALLS):
            return await self._together(request, handler, path)
        if path.startswith(("/v1.0/subscriptions", yeastar.PREFIX)):
            # One worker changes them, to keep changes in order; it notifies the others.
            return await self._by(self._view.leader, request, handler)
        if path.endswith("/media_stream"):
            return await handler(request)  # the process that holds the WebSocket holds the audio
        if path.startswith(_CALL):
            answer = await self._by(self._owner(request.match_info["id"]), request, handler)
            return await self._with_streams(request, answer) if path == _CALL and request.method == "GET" else answer
        if path.startswith(twilio.OF_CALL) and (call_id := twilio.call_of(request)):
            return await self._by(self._owner(call_id), request, handler)
        if path.startswith(_CONFERENCE):
            found = self._view.conference(request.match_info["id"])
            return await self._by(found[0] if found else self._view.number, request, handler)
        if path == "/v1.0/calls" and request.method == "POST" and _counts_calls(request[PRINCIPAL]):
            return await self._by(self._view.leader, request, handler)  # one worker counts all of a token's calls
        if path == "/v1.0/conferences" and request.method == "POST":
            return await self._by(await self._who_makes(request), request, handler)
        anywhere = path.startswith(("/v1.0/groupcalls/", "/v1.0/recordings/", twilio.RECORDING, twilio.OF_CALL))
        return await (self._whoever_has(request, handler) if anywhere else handler(request))

    # Asked of all

    async def _together(self, request: web.Request, handler: Handler, path: str) -> web.StreamResponse:
        if path == twilio.CALLS:
            return await self._vendors_calls(request)
        refused: ApiError | None = None
        texts: dict[int, str] = {}
        try:
            texts[self._view.number] = _text_of(await handler(request))
        except ApiError as error:
            if error.status != 503:
                raise
            refused = error  # it has not synchronized with the PBX yet; the others may have
        texts |= await self._ask_all(request, str(request.rel_url.raw_path_qs) if path in PAGED else path)
        if not texts:
            assert refused is not None
            raise refused
        if path == "/metrics":
            merged = merging.metrics(texts, self._view.restarts, self._view.dropped_by_supervisor)
            return web.Response(body=merged.encode(), headers={"Content-Type": CONTENT_TYPE})
        bodies = {number: json.loads(text) for number, text in texts.items()}
        if path == "/health":
            health = merging.health(bodies, self._view.count, detailed=request[PRINCIPAL] is not ANONYMOUS)
            return web.json_response(health, status=200 if health["status"] == "ok" else 503)
        if path == "/v1.0/streams":
            return web.json_response(merging.lists(bodies.values()))
        size = int(request.query.get("page_size") or Paging().page_size)
        page = merging.pages(list(bodies.values()), PAGED[path], size)
        if path == "/v1.0/calls":
            merging.count_streams(page["result"], await self._streams(request))
        return web.json_response(page)

    async def _vendors_calls(self, request: web.Request) -> web.StreamResponse:
        """Return a page of the calls of all workers, in the vendor's shape."""
        refused: ApiError | None = None
        calls: list[Mapping[str, Any]] = []
        try:
            calls += twilio.newest(request)
        except ApiError as error:
            refused = error
        size = min(twilio.wanted(request) + 1, twilio.MAX_PAGE_SIZE)
        left, number = twilio.wanted(request) + 1, 0
        while left > 0:
            query = request.rel_url.update_query({"Page": str(number), "PageSize": str(size)})
            texts = await self._ask_all(request, str(query.raw_path_qs))
            bodies = [json.loads(text) for text in texts.values()]
            if bodies:
                refused = None
            calls += [call for body in bodies for call in body["calls"]]
            left, number = left - size if any(body["next_page_uri"] for body in bodies) else 0, number + 1
        if refused is not None:
            raise refused
        return twilio.page_of(request, calls)

    async def _with_streams(self, request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
        if answer.status != 200 or not isinstance(answer, web.Response):
            return answer
        body = json.loads(_text_of(answer))
        merging.count_streams([body], await self._streams(request))
        return web.json_response(body)

    async def _streams(self, request: web.Request) -> list[Mapping[str, Any]]:
        others = (await self._ask_all(request, "/v1.0/streams")).values()
        return [*request.app[BACKEND].streams(), *merging.lists(map(json.loads, others))["result"]]

    async def _ask_all(self, request: web.Request, path: str) -> dict[int, str]:
        """Return the responses of the others to a GET, by worker; those that fail are omitted."""
        peers = self._view.peers
        answers = await asyncio.gather(*(self._ask(each, path, request[PRINCIPAL]) for each in peers))
        return {each.number: text for each, text in zip(peers, answers, strict=True) if text is not None}

    async def _ask(self, peer: PeerWorker, path: str, principal: Principal) -> str | None:
        headers = {PRINCIPAL_HEADER: carried(principal)}
        url = yarl.URL(f"http://localhost{path}", encoded=True)
        try:
            async with self._session(peer).get(url, headers=headers, timeout=aiohttp.ClientTimeout(ASK_S)) as answer:
                good = answer.status == 200 or path == "/health"
                return await answer.text() if good else None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            log.warning(
                "worker does not report its state worker=%d error=%s", peer.number, error or type(error).__name__
            )
            return None

    # Passed on

    async def _by(self, number: int, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Forward a request to one worker."""
        peer = self._view.workers.get(number)
        if peer is None or number == self._view.number:
            return await handler(request)
        answer = await self._pass_on(peer, request)
        assert answer is not None
        return answer

    async def _whoever_has(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Forward a request to the worker that chose the id in it; otherwise query all, this worker first."""
        maker = self._view.maker(request.match_info.get("id", ""))
        if maker is not None:
            return await self._by(maker, request, handler)
        missing: ApiError | None = None
        try:
            own = await handler(request)
            if own.status != 404:
                return own
        except ApiError as error:
            if error.status != 404:
                raise
            missing = error
        for peer in self._view.peers:
            answer = await self._pass_on(peer, request, unless_missing=True)
            if answer is not None:
                return answer
        if missing is not None:
            raise missing
        return own

    async def _who_makes(self, request: web.Request) -> int:
        try:
            identity = (await json_object(request)).get("id")
        except ApiError:
            return self._view.number  # which returns what is wrong with it
        return self._view.conference_home(identity) if isinstance(identity, str) else self._view.number

    async def _pass_on(
        self, peer: PeerWorker, request: web.Request, *, unless_missing: bool = False
    ) -> web.StreamResponse | None:
        """Forward a request to another worker.

        Args:
            peer: the worker.
            request: the request.
            unless_missing: whether to return None if it does not have the object.

        Raises:
            ApiError: 503, it does not respond.
        """
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        headers[PRINCIPAL_HEADER] = carried(request[PRINCIPAL])
        body = await whole_body(request)
        url = yarl.URL(f"http://localhost{request.rel_url.raw_path_qs}", encoded=True)
        try:
            async with self._session(peer).request(
                request.method,
                url,
                headers=headers,
                data=body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(PASS_ON_S),
            ) as answer:
                if unless_missing and answer.status == 404:
                    return None
                request[RECORDED] = answer.status != 404
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                for name, value in answer.headers.items():
                    if name.lower() not in _SET_ANEW:
                        response.headers.add(name, value)
                if answer.content_length is None or answer.content_length > LARGE:
                    return await _stream(request, response, answer)
                whole = web.Response(status=answer.status, reason=answer.reason, headers=response.headers)
                whole.body = await answer.read()
                return whole
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._unresponsive(peer, error) from error

    def _unresponsive(self, peer: PeerWorker, error: Exception) -> ApiError:
        log.warning(
            "worker does not respond worker=%d error=%s",
            peer.number,
            error or type(error).__name__,
            extra=cause(peer.number),
        )
        return unavailable(
            "OVERLOADED", "the worker that has the requested object does not respond; try again", RETRY_AFTER_S
        )

    def _session(self, peer: PeerWorker) -> aiohttp.ClientSession:
        session = self._sessions.get(peer.socket)
        if session is None:
            connector = aiohttp.UnixConnector(peer.socket, limit=0)
            session = self._sessions[peer.socket] = aiohttp.ClientSession(
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
                connector=connector,
            )
        return session

    async def operate(
        self, principal: Principal, call_id: str, verb: str, body: Mapping[str, object]
    ) -> tuple[int, Any] | None:
        """Send an operation to the worker that controls a call (`bridge.api.backend.Operate`)."""
        peer = self._view.workers.get(self._owner(call_id))
        if peer is None or peer.number == self._view.number:
            return None
        url = yarl.URL(f"http://localhost/v1.0/calls/{quote(call_id, safe='')}/{verb}", encoded=True)
        headers = {PRINCIPAL_HEADER: carried(principal)}
        timeout = aiohttp.ClientTimeout(PASS_ON_S)
        try:
            async with self._session(peer).post(url, json=body or None, headers=headers, timeout=timeout) as answer:
                return answer.status, await answer.json()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unresponsive(peer, error) from error

    async def make_conference(self, number: int, conference_id: str) -> None:
        """Create a conference on another worker, which ends when it is empty; an existing one is accepted.

        Raises:
            AriError: the worker could not create it, or did not respond.
        """
        peer = self._view.workers[number]
        body = {"id": conference_id, "auto_delete": True}
        try:
            async with self._session(peer).post(
                "http://localhost/v1.0/conferences",
                json=body,
                headers={PRINCIPAL_HEADER: carried(CONFIGURATION)},
                timeout=aiohttp.ClientTimeout(ASK_S),
            ) as answer:
                if answer.status not in (200, 409):
                    raise AriError(answer.status, "POST", "/bridges", "another worker could not create the conference")
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise AriError(0, "POST", "/bridges", "another worker does not respond") from error


def _counts_calls(principal: Principal) -> bool:
    return principal.grant is not None and principal.grant.max_calls > 0


async def _stream(
    request: web.Request, response: web.StreamResponse, answer: aiohttp.ClientResponse
) -> web.StreamResponse:
    await response.prepare(request)
    try:
        async for block in answer.content.iter_chunked(65536):
            await response.write(block)
        await response.write_eof()
    except (TimeoutError, aiohttp.ClientError):
        # The status line has been sent: the client must see that the response is incomplete.
        if request.transport is not None:
            request.transport.abort()
    return response


def _text_of(answer: web.StreamResponse) -> str:
    assert isinstance(answer, web.Response)
    return answer.text or (answer.body.decode() if isinstance(answer.body, bytes) else "")
