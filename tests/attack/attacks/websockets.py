"""WebSockets from both sides: a client of media_stream, and an application that the bridge has dialed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from tests.attack.attacks.table import attack
from tests.attack.target import BINARY, CONTINUATION, PING, TEXT, Target, frame

Data = Callable[[bool], bytes]
"""What is sent, masked or not."""


def _client(target: Target, data: Data, *, first: Data | None = None, most: int = 16 << 20) -> int:
    """Flood the bridge as a client, over one WebSocket after the other, and read nothing."""

    def once() -> int:
        with target.websocket() as connection:
            if first is not None:
                connection.sendall(first(True))
            return target.flood(connection, data(True), most=most)

    return target.repeat(once)


def _application(
    target: Target, data: Data, *, first: Data | None = None, most: int = 16 << 20, dialect: str = "voipbin"
) -> int:
    """Flood the bridge as an application that it has dialed, and read nothing."""
    sent = 0
    for connection in target.application(dialect):
        if first is not None:
            connection.sendall(first(False))
        sent += 1 + target.flood(connection, data(False), most=most)
    return sent


def _pings(masked: bool) -> bytes:
    return frame(PING, b"ab", masked=masked)


def _empty_fragment(masked: bool) -> bytes:
    return frame(CONTINUATION, final=False, masked=masked)


def _small_fragment(masked: bool) -> bytes:
    return frame(CONTINUATION, b"ab", final=False, masked=masked)


def _begin(masked: bool) -> bytes:
    return frame(BINARY, b"ab", final=False, masked=masked)


def _empty(masked: bool) -> bytes:
    return frame(BINARY, masked=masked)


def _tiny(masked: bool) -> bytes:
    return frame(BINARY, b"ab", masked=masked)


def _clear(masked: bool) -> bytes:
    return frame(TEXT, b'{"event":"clear"}', masked=masked)


def _no_utf8(masked: bool) -> bytes:
    return frame(TEXT, b"\xff\xfe\xc0\x80", masked=masked)


@attack(least=1000, phone=True, ends=True)
def pings_by_a_client(target: Target) -> int:
    """Send pings and never read the pongs."""
    return _client(target, _pings, most=8 << 20)


@attack(least=1000, ends=True)
def pings_by_an_application(target: Target) -> int:
    """Send pings and never read the pongs."""
    return _application(target, _pings, most=8 << 20)


@attack(least=1000)
def empty_fragments_by_a_client(target: Target) -> int:
    """Send a message in fragments of 0 bytes that never ends."""
    return _client(target, _empty_fragment, first=_begin)


@attack(least=1000)
def empty_fragments_by_an_application(target: Target) -> int:
    """Send a message in fragments of 0 bytes that never ends."""
    return _application(target, _empty_fragment, first=_begin)


@attack(least=1000)
def small_fragments_by_a_client(target: Target) -> int:
    """Send a message in fragments of 2 bytes that never ends."""
    return _client(target, _small_fragment, first=_begin)


@attack(least=1000)
def small_fragments_by_an_application(target: Target) -> int:
    """Send a message in fragments of 2 bytes that never ends."""
    return _application(target, _small_fragment, first=_begin)


@attack(least=1000)
def empty_messages_by_a_client(target: Target) -> int:
    """Send empty messages, as fast as they go."""
    return _client(target, _empty)


@attack(least=1000)
def empty_messages_by_an_application(target: Target) -> int:
    """Send empty messages, as fast as they go."""
    return _application(target, _empty)


@attack(least=1000)
def tiny_messages_by_a_client(target: Target) -> int:
    """Send one sample in each message, as fast as they go."""
    return _client(target, _tiny)


@attack(least=1000)
def tiny_messages_by_an_application(target: Target) -> int:
    """Send one sample in each message, as fast as they go."""
    return _application(target, _tiny)


@attack(least=1000)
def clears_by_a_client(target: Target) -> int:
    """Send the command that discards audio, as fast as it goes."""
    return _client(target, _clear)


@attack(least=1)
def invalid_utf8_by_a_client(target: Target) -> int:
    """Send text that is not UTF-8, over one WebSocket after the other."""
    return _client(target, _no_utf8)


@attack(least=1)
def invalid_utf8_by_an_application(target: Target) -> int:
    """Send text that is not UTF-8, whenever the bridge dials."""
    return _application(target, _no_utf8)


# The queues of its streams (9.6 MB each, media.max_queued_ms) are small blocks, which glibc keeps for the next ones.
@attack(least=1, kept_mb=40)
def audio_flood_by_a_client(target: Target) -> int:
    """Send audio far faster than it can be played."""
    return _client(target, lambda masked: frame(BINARY, bytes(3200), masked=masked), most=64 << 20)


@attack(least=1)
def endless_message_by_an_application(target: Target) -> int:
    """Announce a message of 2 ** 40 bytes and send it."""
    head = bytes((0x82, 127)) + (1 << 40).to_bytes(8, "big")
    return _application(target, lambda _: bytes(65536), first=lambda _: head, most=64 << 20)


def _largest(target: Target, dialect: str, message: bytes) -> int:
    """Send a message of 16 MiB, again whenever the bridge dials."""
    whole = frame(TEXT if message.startswith(b"{") else BINARY, message, masked=False)
    return _application(target, lambda _: whole, most=4 * len(whole), dialect=dialect)


def _padded(before: bytes, after: bytes, filling: bytes = b"A") -> bytes:
    """Return a message of just under 16 MiB."""
    size = (16 << 20) - 64 - len(before) - len(after)
    return before + filling * (size // len(filling) // 4 * 4) + after


@attack(least=1)
def largest_message_voipbin(target: Target) -> int:
    """Send 16 MiB of bare audio in one message."""
    return _largest(target, "voipbin", _padded(b"", b""))


@attack(least=1)
def largest_message_twilio(target: Target) -> int:
    """Send 16 MiB of base64 in one Twilio message."""
    return _largest(target, "twilio", _padded(b'{"event":"media","media":{"payload":"', b'"}}'))


@attack(least=1)
def largest_message_twilio_misspelled(target: Target) -> int:
    """Send 16 MiB of what is nearly base64 in one Twilio message."""
    return _largest(target, "twilio", _padded(b'{"event":"media","media":{"payload":"', b'"}}', b"A\\nA"))


@attack(least=1)
def largest_message_voxology(target: Target) -> int:
    """Send 16 MiB in one Voxology message."""
    return _largest(target, "voxology", _padded(b'{"event":"media","media":{"payload":"', b'"}}'))


@attack(least=1)
def largest_message_yeastar(target: Target) -> int:
    """Send 16 MiB in one Yeastar message."""
    return _largest(target, "yeastar", _padded(b'{"event":"media","media":{"payload":"', b'"}}'))


@attack(least=1)
def deep_json_message(target: Target) -> int:
    """Send 900 KB of nested lists to the Twilio dialect, again whenever the bridge dials."""
    deep = b'{"event":"media","media":' + b"[" * 900_000
    return _application(target, lambda _: frame(TEXT, deep, masked=False), most=8 << 20, dialect="twilio")


@attack(least=1)
def marks_by_an_application(target: Target) -> int:
    """Set marks, as fast as they go, behind a little audio."""
    audio = json.dumps({"event": "media", "media": {"payload": base64.b64encode(bytes(8000)).decode()}}).encode()
    mark = frame(TEXT, b'{"event":"mark","mark":{"name":"' + b"m" * 200 + b'"}}', masked=False)
    return _application(
        target, lambda _: mark, first=lambda _: frame(TEXT, audio, masked=False), most=8 << 20, dialect="twilio"
    )


@attack(least=1)
def handshakes_that_fail(target: Target) -> int:
    """Ask for WebSockets on calls that there are not, and with keys that are none."""
    wanted = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short")
    request = target.head("GET", "/v1.0/calls/none/media_stream?encapsulation=sln", *wanted)
    return target.ask_again(request)
