"""Callbacks about streams: when each is sent, and their parameters.

Source: twilio.com/docs/voice/twiml/stream (2026). Each connection of a stream has an id of its own: after a reconnect,
the previous one has failed and another one has started.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from msgspec import Struct

from bridge.dialects.twilio import Twilio, call_sid
from bridge.flows.twiml_requests import TwimlAccount, TwimlMethod
from bridge.streams.stream import Stream
from bridge.streams.stream_reports import ended_well

StreamEvent = Literal["stream-started", "stream-stopped", "stream-error"]
BROKE = "the connection broke"
SendStatus = Callable[[str, StreamEvent, str], Awaitable[object]]
"""Called with the id of the stream, what has happened, and the reason of an error."""


class StreamCallback(Struct, frozen=True):
    """Server that receives the status of a stream.

    Args:
        url: the server.
        method: HTTP method.
        name: the name of the stream; empty: its id.
        configured: the configuration determines the host.
        verify_tls: check the certificate and the host name of the server.
        ca_file: PEM file with the only trusted authorities; empty: those of the system.
    """

    url: str
    method: TwimlMethod = "POST"
    name: str = ""
    configured: bool = False
    verify_tls: bool = True
    ca_file: str = ""


def stream_sid(stream: Stream) -> str:
    """Return the id by which applications identify a stream; empty: its dialect has none."""
    return stream.dialect.stream_sid if isinstance(stream.dialect, Twilio) else ""


async def follow(stream: Stream, report: SendStatus) -> None:
    """Report each connection of a stream as started, and then as stopped or failed, until the stream has ended.

    A failure to connect is reported once, although connecting is retried.

    Args:
        stream: the stream.
        report: sends a callback.
    """
    connects, current, failed = 0, "", False
    while True:
        if stream.connects > connects:
            if current:
                await report(current, "stream-error", BROKE)
            connects, current, failed = stream.connects, stream_sid(stream), False
            await report(current, "stream-started", "")
        elif stream.ended:
            break
        elif stream.link is None and stream.trouble and not failed:
            current, sid, failed = "", current or stream_sid(stream), True
            await report(sid, "stream-error", stream.trouble or BROKE)
        else:
            await stream.changed()
    await stream.wait()
    if current and ended_well(stream):
        await report(current, "stream-stopped", "")
    elif not failed:
        reason = stream.trouble or f"the stream ended with code {stream.close_code}"
        await report(current or stream_sid(stream), "stream-error", reason)


def stream_parameters(
    account: TwimlAccount, callback: StreamCallback, call_id: str, sid: str, event: StreamEvent
) -> dict[str, str]:
    """Return the parameters of a callback, except its time and an error.

    Args:
        account: the account.
        callback: where it is sent.
        call_id: the call.
        sid: the id of the stream.
        event: what has happened.
    """
    return {
        "AccountSid": account.sid,
        "CallSid": call_sid(call_id),
        "StreamSid": sid,
        "StreamName": callback.name or sid,
        "StreamEvent": event,
    }
