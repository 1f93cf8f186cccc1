"""``asterisk-bridge call``: creates a call on a running instance, and reports its progress until it ends.

It is a client of the HTTP API: ``POST /v1.0/calls``, and ``/v1.0/events`` for the progress.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import aiohttp

from bridge.ari.rest import explain_failure
from bridge.config import Config, host_and_port, load, settings_in
from bridge.config.initial_token import existing_token
from bridge.config.values import is_loopback, is_wildcard
from bridge.outbound.headers import USER_AGENT
from bridge.tls import Trust, TrustError, build_context, client_context, pinned_context

GREETING = "Hello. This is a test call from your Asterisk bridge."
CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 60.0
MAX_EARLY = 1000
GRACE_S = 5.0
"""How long the command waits for the hangup to be reported after it was interrupted."""
RECONNECT_S = 60.0
"""How long the command tries to connect again: by default, calls wait as long for a restart (``restart.wait_s``)."""
RETRY_S = 0.5


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Create a call on a running instance, and follow it until it ends.

    Args:
        options: arguments of the command.
        environ: environment variables.

    Returns:
        The exit code: 0 if a party answered.
    """
    # asterisk-bridge may run on another machine, with a configuration that this one does not have.
    # The variables are those of the examples, and `./lab env` sets them. Arguments take precedence.
    named = options.url or ("" if options.config else environ.get("BRIDGE_URL", ""))
    in_environment = not named and settings_in(environ)  # as in a container
    config = load(options.config, environ) if options.config or in_environment else Config()
    url = named or base_url(config)
    configured = [token.get_secret_value() for token in config.http.tokens]
    # The token of the first start is sent to this machine's instance only, never to another server.
    own = not named or is_local(named)
    configured = configured or [existing_token(config, environ) if own else ""]
    try:
        token = options.token or _token_in(options.token_file)
        token = token or ("" if options.config else environ.get("BRIDGE_TOKEN", "")) or configured[0]
        if (options.talk or options.play) and (options.actions or options.flow):
            raise ValueError("--talk and --play exclude --actions and --flow")
        tls = _tls(options.ca_file, "" if named else config.http.tls_certificate, url)
        body: dict[str, object] = {"destinations": [address(text) for text in options.destination]}
        if options.source:
            body["source"] = address(options.source)
        if options.flow:
            body["flow_id"] = options.flow
        else:
            body["actions"] = actions_of(options.talk, options.play, options.actions)
    except (ValueError, TrustError) as problem:
        print(f"asterisk-bridge: {problem}", file=sys.stderr)
        return 2
    if len(options.destination) > 1 and options.first:
        body["answer_method"] = "hangup_others"
    try:
        return asyncio.run(Dialer(url, token, tls=tls).run(body))
    except CallFailed as problem:
        print(f"asterisk-bridge: {problem}", file=sys.stderr)
        return 1


class CallFailed(Exception):
    """The call could not be created; the message has the reason."""


def address(text: str) -> dict[str, str]:
    """Return a destination in the form of the API.

    ``1001`` is an extension, ``+4930123`` or ``tel:030123`` is dialed through the trunk, ``sip:alice@example.org`` and
    ``conference:sales`` have their type as a prefix.

    Raises:
        ValueError: it is none of these.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind in ("tel", "sip", "extension", "conference"):
        # A SIP address includes its scheme.
        return {"type": kind, "target": text if kind == "sip" else _filled(text, rest)}
    if re.fullmatch(r"\+[0-9]{3,15}", text):
        return {"type": "tel", "target": text}
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,79}", text):
        return {"type": "extension", "target": text}
    raise ValueError(
        f"{text!r} is not a destination; expected 1001, +493012345, tel:..., sip:user@host or conference:name"
    )


def actions_of(talk: Sequence[str], play: Sequence[str], file: Path | None) -> list[Any]:
    """Return the flow that the arguments describe; a greeting if they describe none.

    Raises:
        ValueError: the file cannot be read or has no actions.
    """
    if file is not None:
        try:
            body = json.loads(file.read_text())
        except OSError as problem:
            raise ValueError(f"{file}: {problem.strerror}") from None
        except ValueError as problem:
            raise ValueError(f"{file}: is not JSON: {problem}") from None
        actions = body.get("actions") if isinstance(body, dict) else body
        if not isinstance(actions, list):
            raise ValueError(f'{file}: expected a list of actions, or {{"actions": [...]}}')
        return actions
    actions = [{"type": "talk", "option": {"text": text}} for text in talk]
    actions += [{"type": "play", "option": {"stream_urls": [url]}} for url in play]
    return actions or [{"type": "talk", "option": {"text": GREETING}}]


def base_url(config: Config) -> str:
    """Return the URL of the instance with this configuration, from its own machine."""
    host = config.http.host
    if is_wildcard(host):
        host = "::1" if ":" in host else "127.0.0.1"
    return f"{'https' if config.http.tls_certificate else 'http'}://{host_and_port(host, config.http.port)}"


def _tls(ca_file: Path | None, certificate: str, url: str) -> ssl.SSLContext | None:
    """Return which servers are trusted; None: the system's authorities.

    Args:
        ca_file: PEM file with the only trusted authorities, if any.
        certificate: that of the instance on this machine; empty: unknown.
        url: the server.

    Raises:
        TrustError: a file cannot be used.
    """
    if not url.startswith("https:"):
        return None
    if ca_file:
        return build_context(Trust(ca_file=str(ca_file)))
    return pinned_context(certificate) if certificate else None


def is_local(url: str) -> bool:
    """Return whether a URL leads to this machine by its loopback address or name."""
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


class Dialer:
    """One run of the command.

    Args:
        url: the HTTP address of asterisk-bridge.
        token: the token to send; empty for none.
        out: where the progress is printed.
        tls: for ``https``; None: the system's authorities are trusted.
    """

    def __init__(self, url: str, token: str, out: TextIO | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._url = url.rstrip("/")
        self._token = token
        self._out = out or sys.stdout
        self._began = time.monotonic()
        self._calls: dict[str, str] = {}
        """The destination of each active call."""
        self._early: list[Mapping[str, Any]] = []
        """Events that arrived before the response to the request, which contains the ids of the calls."""
        self._placed = False
        self._answered = False
        self._over = asyncio.Event()

    async def run(self, body: Mapping[str, Any]) -> int:
        """Create the call of ``body`` and follow it until it ends; return the exit code: 0 if a party answered.

        Raises:
            CallFailed: the server could not be reached, or returned an error.
        """
        headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        try:
            connector = aiohttp.TCPConnector(ssl=self._tls or await client_context(Trust()))
            async with aiohttp.ClientSession(
                connector=connector, auto_decompress=False, headers=headers, timeout=timeout
            ) as session:
                return await self._run(session, body)
        except aiohttp.ClientConnectorCertificateError as problem:
            raise CallFailed(
                f"{self._url}: {explain_failure(problem)}; --ca-file names the authority to trust, and --url must be"
                " a name of the certificate; --config alone trusts the certificate in it"
            ) from None
        except aiohttp.WSServerHandshakeError as problem:
            if problem.status == 401:
                given = ", and this one is invalid" if self._token else ""
                raise CallFailed(
                    f"{self._url} requires a token{given}: --token-file, $BRIDGE_TOKEN, or http.tokens in"
                    " --config (its [[tokens]] contain only hashes)"
                ) from None
            raise CallFailed(f"{self._url} rejected the events connection: {problem.status}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            raise CallFailed(f"{self._url}: {explain_failure(problem)}") from None

    async def _run(self, session: aiohttp.ClientSession, body: Mapping[str, Any]) -> int:
        # Events first: a call to a busy phone ends before the response to its request.
        async with await self._listen(session) as events:
            reading = asyncio.create_task(self._follow(session, events))
            interrupted = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, interrupted.set)
            ends = [asyncio.create_task(event.wait()) for event in (self._over, interrupted)]
            try:
                await self._place(session, body)
                await asyncio.wait((reading, *ends), return_when=asyncio.FIRST_COMPLETED)
                if interrupted.is_set():
                    await self._hang_up(session)
                    await asyncio.wait((reading, ends[0]), timeout=GRACE_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.remove_signal_handler(number)
                for task in (reading, *ends):
                    task.cancel()
                await asyncio.gather(reading, *ends, return_exceptions=True)
            if not self._over.is_set():
                raise CallFailed("the server closed the events connection; the call may continue")
        return 0 if self._answered else 1

    async def _place(self, session: aiohttp.ClientSession, body: Mapping[str, Any]) -> None:
        async with session.post(f"{self._url}/v1.0/calls", json=body) as answer:
            try:
                content = await answer.json()
            except (ValueError, aiohttp.ClientError):
                raise CallFailed(
                    f"{self._url} returned {answer.status} without JSON; check that this is asterisk-bridge"
                ) from None
        if answer.status != 200:
            raise CallFailed(content.get("error", {}).get("message", f"the server returned {answer.status}"))
        for call in content["calls"]:
            self._calls[call["id"]] = call["destination"]["target"]
            self._say(call["id"], f"calling {self._calls[call['id']]} ({call['id']})")
        self._placed = True
        for event in self._early:
            self._see(event)

    async def _hang_up(self, session: aiohttp.ClientSession) -> None:
        for call_id in tuple(self._calls):
            async with session.post(f"{self._url}/v1.0/calls/{call_id}/hangup"):
                pass

    async def _listen(self, session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        return await session.ws_connect(f"{self._url}/v1.0/events", params={"types": "call_*,flow_*"})

    async def _follow(self, session: aiohttp.ClientSession, events: aiohttp.ClientWebSocketResponse) -> None:
        """Read events, also of a bridge that is restarted: calls survive that."""
        await self._read(events)
        while self._calls:
            self._print("connection lost, connecting again")
            deadline = time.monotonic() + RECONNECT_S
            while True:
                await asyncio.sleep(RETRY_S)  # first: a server may accept each connection, and close it
                try:
                    again = await self._listen(session)
                    break
                except (aiohttp.ClientError, TimeoutError, OSError):
                    if time.monotonic() > deadline:
                        return
            async with again:
                self._print("connected again")
                looking = [asyncio.create_task(self._look_at(session, call_id)) for call_id in self._calls]
                try:
                    await self._read(again)
                finally:
                    for look in looking:
                        look.cancel()
                    await asyncio.gather(*looking, return_exceptions=True)

    async def _look_at(self, session: aiohttp.ClientSession, call_id: str) -> None:
        """Report how a call is after a time without events, as soon as the server has synchronized with Asterisk."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                if await self._is_reported(session, call_id):
                    return
            await asyncio.sleep(RETRY_S)

    async def _is_reported(self, session: aiohttp.ClientSession, call_id: str) -> bool:
        async with session.get(f"{self._url}/v1.0/calls/{call_id}") as answer:
            found = await answer.json() if answer.status == 200 else {}
        if answer.status not in (200, 404):  # 503: not synchronized with Asterisk yet
            return False
        if answer.status == 404:
            self._see({"type": "call_hangup", "data": {"id": call_id, "hangup_reason": "unknown"}})
        elif found.get("status") == "hangup":
            self._see({"type": "call_hangup", "data": found})
        else:
            self._answered |= found.get("status") == "progressing"
        return True

    async def _read(self, events: aiohttp.ClientWebSocketResponse) -> None:
        async for message in events:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            if self._placed:
                self._see(event)
            else:
                self._early = [*self._early[-MAX_EARLY:], event]

    def _see(self, event: Mapping[str, Any]) -> None:
        data = event["data"]
        call_id = data.get("call_id") or data.get("id")
        if call_id not in self._calls:
            return
        words = _WORDS.get(event["type"])
        if words is not None:
            failure = f" {data['reason']}" if data.get("reason") else ""
            why = [data.get("hangup_detail"), data.get("forwarded_to") and f"forwarded to {data['forwarded_to']}"]
            ended = f"{data.get('hangup_reason') or 'normal'} ({', '.join(filter(None, why))})".removesuffix(" ()")
            facts = {**data, "number": data.get("index", 0) + 1, "ended": ended}
            self._say(call_id, words.format_map({**facts, "failure": failure}))
        self._answered |= event["type"] == "call_progressing"
        if event["type"] == "call_hangup":
            del self._calls[call_id]
            if not self._calls:
                self._over.set()

    def _say(self, call_id: str, text: str) -> None:
        whom = f"{self._calls[call_id]}: " if len(self._calls) > 1 else ""
        self._print(f"{whom}{text}")

    def _print(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", file=self._out, flush=True)


_WORDS = {
    "call_ringing": "ringing",
    "call_progressing": "answered",
    "flow_action": "action {number}: {type}{failure}",
    "call_hangup": "over: {ended}",
}


def _filled(text: str, rest: str) -> str:
    if not rest:
        raise ValueError(f"{text!r} is incomplete: nothing follows the colon")
    return rest


def _token_in(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as problem:
        raise ValueError(f"{path}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None
