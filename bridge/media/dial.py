"""Outgoing WebSockets: opening them, whether to retry, and the waits in between.

Formats: RFC 6455 (sections 4.1 and 7.4) and RFC 9110. Redirects are not followed and no proxy is used: the
administrator names the server itself, and nobody else gets the credential.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, cast

import aiofastnet

from bridge.errors import BridgeError
from bridge.media import websocket_library
from bridge.media.counters import Counters
from bridge.media.destination import Destination
from bridge.media.response_head import NotHttp, ResponseHead
from bridge.media.takeover import feed
from bridge.media.websocket import MAX_TEXT_BYTES, Link
from bridge.outbound.gate import Gate
from bridge.outbound.headers import with_user_agent
from bridge.outbound.policy import Denied
from bridge.tls import TrustError, client_context

if TYPE_CHECKING:
    from bridge.media.picows_link import PicowsLink

__all__ = ["Backoff", "Destination", "LinkFailed", "LinkRefused", "clean", "dial"]

log = logging.getLogger(__name__)

REFUSAL_WAIT_S = 0.5
"""Time for a server that has refused to send the body with its reason, in seconds."""
LISTEN_WAIT_S = 1.0
"""Time in seconds after which a link without a reader is read anyway: to answer pings, and detect its end."""
RETRIED_STATUSES = frozenset({408, 425, 429})
"""Statuses below 500 that may be retried."""

GOING_AWAY = 1001
"""The Close code of a server that goes down (RFC 6455 section 7.4.1), or of a page that is closed."""

MAX_WARNED = 1000
_warned: set[str] = set()
"""Hosts whose unencrypted connection was logged, at most `MAX_WARNED`: flows name hosts too."""


class LinkRefused(BridgeError):
    """The server refuses, and would refuse again: do not retry.

    Args:
        status: HTTP status of its response; 0: no request was sent.
        reason: the server and its response, without secrets.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class LinkFailed(BridgeError):
    """A connection is impossible now; retrying later may succeed.

    Args:
        reason: the server and what went wrong, without secrets.
        retry_after_s: the server's Retry-After, in seconds.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


_CHANCE = random.Random()
"""Shared by all waits: one source for every stream would take 2.5 KB each."""


class Backoff:
    """Waits between attempts: increasing, and randomized to spread many that begin together.

    Args:
        first_s: the first wait, in seconds, before jitter.
        last_s: the longest wait, in seconds.
        factor: ratio of each wait to the one before.
        jitter: maximum random reduction of each wait, as a share from 0 to 1.
        chance: random source; seeded in tests.

    Raises:
        ValueError: the numbers do not form a growing series of waits.
    """

    def __init__(
        self,
        first_s: float = 0.5,
        last_s: float = 15.0,
        factor: float = 2.0,
        jitter: float = 0.5,
        chance: random.Random | None = None,
    ) -> None:
        if not (0 < first_s <= last_s and factor >= 1 and 0 <= jitter <= 1):
            raise ValueError("backoff needs 0 < first_s <= last_s, factor >= 1 and jitter from 0 to 1")
        self._first_s = first_s
        self._last_s = last_s
        self._factor = factor
        self._jitter = jitter
        self._chance = chance or _CHANCE
        self._next_s = first_s

    def next_delay(self) -> float:
        """Return the next wait in seconds."""
        delay_s = self._next_s
        self._next_s = min(self._last_s, delay_s * self._factor)
        return delay_s * (1 - self._jitter * self._chance.random())

    def reset(self) -> None:
        """Start again with the first wait, after a successful connection."""
        self._next_s = self._first_s


def clean(code: int) -> bool:
    """Return whether this close code ends the stream for good.

    1000: done; 1005: a Close frame without a code, as ``ws.close()`` sends in JavaScript. `GOING_AWAY` is what servers
    send when they restart, so it does not.
    """
    return code in (1000, 1005)


async def dial(
    destination: Destination,
    counters: Counters,
    *,
    gate: Gate,
    connect_timeout_s: float,
    max_unsent_ms: int,
    ping_interval_s: float,
    max_message_bytes: int,
    max_text_bytes: int = MAX_TEXT_BYTES,
) -> Link:
    """Connect to ``destination``. Nothing is read before the caller sets ``on_message``, and so nothing is missed.

    Args:
        destination: where to connect.
        counters: the process's counters.
        gate: hosts that may be connected to.
        connect_timeout_s: limit for name resolution, TCP, TLS and handshake together, in seconds.
        max_unsent_ms: as for any link, like the following arguments.
        ping_interval_s: see `Link`.
        max_message_bytes: limit of a message.
        max_text_bytes: limit of text messages.

    Returns:
        The open link.

    Raises:
        LinkRefused: the server refused with a status that will be the same next time, or the gate denies the host.
        LinkFailed: anything else.
    """
    await websocket_library.loaded()
    from picows import WSError

    from bridge.media.picows_link import PicowsLink

    if destination.exposes_headers and destination.where not in _warned and len(_warned) < MAX_WARNED:
        _warned.add(destination.where)
        log.warning("headers, including credentials, are sent unencrypted host=%s", destination.where)
    link = PicowsLink(
        counters,
        max_unsent_ms=max_unsent_ms,
        ping_interval_s=ping_interval_s,
        max_message_bytes=max_message_bytes,
        max_text_bytes=max_text_bytes,
    )
    handshake = _Handshake(destination, link)
    where = destination.where
    loop = asyncio.get_running_loop()
    connected = False
    try:
        async with asyncio.timeout(connect_timeout_s):
            tls = await client_context(destination.trust) if destination.secure else None
            # aiofastnet's transport costs less for every frame. Not under TLS: there it holds 17 s of audio that cannot
            # be dropped
            # (asyncio's 3 s), and gives less detail about a wrong certificate.
            connect: Any = loop.create_connection if tls else functools.partial(aiofastnet.create_connection, loop)
            sock = await gate.connect(destination.host, destination.port, configured=destination.configured)
            await connect(
                lambda: handshake,
                sock=sock,
                ssl=tls,
                server_hostname=destination.host if tls else None,
                ssl_handshake_timeout=connect_timeout_s if tls else None,
            )
            await handshake.answered()
        connected = True
    except Denied as error:
        raise LinkRefused(0, f"{where}: {error}") from None
    except TrustError as error:
        raise LinkFailed(f"{where}: ca_file {error}") from None
    except WSError as error:
        raise LinkFailed(f"{where}: not a WebSocket handshake: {error}") from None
    except OSError as error:
        if isinstance(error, TimeoutError) and error.errno is None:  # of asyncio.timeout, not the kernel's
            handshake.judge()  # a response may have arrived without all of its body
            raise LinkFailed(f"{where}: {handshake.missing} within {connect_timeout_s:g} s") from None
        raise LinkFailed(f"{where}: {_words(error)}") from None
    finally:
        if not connected:
            handshake.abandon()
    loop.call_later(LISTEN_WAIT_S, link.admit)
    return link


class _Handshake(asyncio.Protocol):
    """A connection until the server has answered the upgrade request.

    picows judges a response by its head; the reason, which the administrator needs, is in the body.
    """

    def __init__(self, destination: Destination, link: PicowsLink) -> None:
        from bridge.media.response_reader import AnswerReader  # loaded by `dial`

        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._destination = destination
        self._link = link
        self._inner: Any = link.client_protocol(
            destination.authority, destination.resource, with_user_agent(destination.headers)
        )
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def missing(self) -> str:
        """The step that is missing."""
        return "no connection" if self._transport is None else "connected, but no answer to the WebSocket request"

    async def answered(self) -> None:
        """Wait until the link is established.

        Raises:
            LinkRefused: the server refused.
            LinkFailed: there is no valid response.
            picows.WSError: the server accepted, but not as a WebSocket server.
        """
        await self._done
        await self._inner.wait_until_handshake_complete()

    def judge(self) -> None:
        """Raise the error of the response, if there is one.

        Raises:
            LinkRefused: the server refused.
            LinkFailed: the server may accept later.
        """
        answer = self._reader.answer
        if answer is None:
            return
        words = answer.words(self._reader.body, self._destination.secrets)
        reason = f"{self._destination.where} answers {words}"
        if answer.status < 500 and answer.status not in RETRIED_STATUSES:
            raise LinkRefused(answer.status, reason)
        raise LinkFailed(reason, answer.retry_after_s(time.time()))

    def abandon(self) -> None:
        """Close everything."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        done, self._done = self._done, asyncio.get_running_loop().create_future()
        self._done.cancel()  # what still arrives is ignored; the traceback of the former's error refers to this object
        if not done.cancel() and not done.cancelled():
            done.exception()  # retrieved, as asyncio logs exceptions that nobody retrieves

    # Methods that asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connected = cast(asyncio.Transport, transport)  # create_connection gives TCP or TLS transports
        if self._done.cancelled():
            # Abandoned: if the caller is cancelled before its TLS handshake begins, asyncio continues with it.
            connected.abort()
            return
        self._transport = connected
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._done.done():
            return
        try:
            self._reader.feed(data)
        except NotHttp as error:
            self._fail(LinkFailed(f"{self._destination.where}: {error}"))
            return
        answer = self._reader.answer
        if answer is None:
            return
        if answer.status == 101:
            self._upgrade(answer)
        elif self._reader.complete:
            self._told()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(REFUSAL_WAIT_S, self._told)

    def eof_received(self) -> None:
        if self._reader.answer is not None:
            self._told()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._inner.connection_lost(exc)
        if self._reader.answer is not None:
            self._told()
        else:
            words = _words(exc) if isinstance(exc, OSError) else "the server closed the connection without an answer"
            self._fail(LinkFailed(f"{self._destination.where}: {words}"))

    # Internals

    def _upgrade(self, answer: ResponseHead) -> None:
        transport, rest = self._transport, self._reader.body
        assert transport is not None  # it has delivered the response
        transport.set_protocol(self._inner)
        feed(self._inner, answer.upgrade())
        self._done.set_result(None)
        if not self._link.established:  # picows has the reason
            return
        transport.pause_reading()

        def admit() -> None:
            feed(self._inner, rest)
            transport.resume_reading()

        self._link.hold(admit)

    def _told(self) -> None:
        try:
            self.judge()
        except (LinkRefused, LinkFailed) as error:
            self._fail(error)

    def _fail(self, error: BridgeError) -> None:
        if not self._done.done():
            self._done.set_exception(error)


def _words(error: OSError) -> str:
    """Describe an error to an administrator."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate was rejected: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved: {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return error.strerror or str(error) or type(error).__name__
