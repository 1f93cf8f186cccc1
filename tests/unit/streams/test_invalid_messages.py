"""An application that is not understood: one line in the log, and a count, however the stream began."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from bridge.dialects.base import Dialect
from bridge.dialects.twilio import Twilio
from bridge.dialects.voipbin import Voipbin
from bridge.dialects.voxology import Voxology
from bridge.streams.invalid_messages import SHOWN_KEYS, describe
from bridge.streams.stream_reports import REPORT_S
from tests.fakes.log_output import log_output
from tests.fakes.virtual_time import pass_time
from tests.unit.streams.one_stream import OneStream

Open = Callable[[Dialect], OneStream]


@pytest.fixture(params=["accepted", "dialed"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Return a function that starts a stream of a dialect, accepted or dialed."""
    streams: list[OneStream] = []

    def start(dialect: Dialect) -> OneStream:
        streams.append(OneStream(dialect, dialed=request.param == "dialed"))
        return streams[-1]

    yield start
    for one in streams:
        await one.end()


def agent() -> Dialect:
    return Twilio(connect=True)


@pytest.mark.parametrize(
    ("dialect", "message", "received", "expected"),
    [
        (agent, b'{"event":"media","media":{"payload":"AA=="}}', "binary message with JSON", "text messages"),
        (agent, b"\xff" * 160, "160 bytes that begin with ffffffffffffffff", "text messages"),
        (agent, '{"event":"media","media":{"playload":"AA=="}}', "keys event, media.playload", "media.payload"),
        (Twilio, '{"event":"clear"}', 'text message with JSON, event "clear"', "nothing: the stream is one-way"),
        (lambda: Voipbin("sln"), '{"event":"Clear"}', 'event "Clear", keys event', '{"event": "clear"}'),
        (lambda: Voipbin("sln"), "hello", "text of 5 characters that is not a JSON object", "slin at 8000 Hz"),
        (lambda: Voipbin("rtp"), bytes(172), "172 bytes that begin with 0000000000000000", "encapsulation=rtp"),
        (Voxology, '{"type":"ping"}', 'type "ping"', "nothing"),
    ],
)
async def test_an_application_that_is_not_understood_leaves_a_line_and_a_count(
    opened: Open, dialect: Callable[[], Dialect], message: str | bytes, received: str, expected: str
) -> None:
    with log_output() as output:
        one = opened(dialect())
        stream, wire = one.stream, one.wire
        await stream.settled(1)
        for _ in range(3):
            wire.on_message(message)
        await pass_time(REPORT_S * 1.1)
        wire.on_message(message)
        assert stream.describe()["discarded_messages"] == 4
        stream.end("enough")
        await stream.wait()
    lines = output.getvalue().splitlines()
    (line,) = [line.replace('\\"', '"') for line in lines if "message from the application discarded" in line]
    assert line.split()[1] == "WARNING"
    assert "stream=1" in line
    assert received in line.partition(" expected=")[0]
    assert expected in line.partition(" expected=")[2]
    assert " discarded_messages=4 reason=enough" in lines[-1]


async def test_no_value_that_an_application_sent_is_logged(opened: Open) -> None:
    with log_output() as output:
        one = opened(Voipbin("sln"))
        stream, wire = one.stream, one.wire
        await stream.settled(1)
        wire.on_message('{"event":"dtmf","dtmf":{"digits":"12345x"},"text":"my secret"}')
    assert "keys event, dtmf.digits, text" in output.getvalue()
    assert "12345" not in output.getvalue()
    assert "secret" not in output.getvalue()


async def test_a_message_of_many_bad_parts_is_reported_once(opened: Open) -> None:
    with log_output() as output:
        one = opened(Voipbin("audiosocket"))
        stream, wire = one.stream, one.wire
        await stream.settled(1)
        wire.on_message(b"\x10\x00\x02ab" + b"\x03\x00\x01e" * 50)
        assert stream.dialect.discarded == 50
    assert output.getvalue().count("message from the application discarded") == 1


def test_a_description_is_bounded() -> None:
    assert describe("[" * 100_000) == "text of 100000 characters that is not a JSON object"
    assert describe("{" + '"k":1,' * 2000 + '"k":1}').startswith("text of 1200")
    wide = describe("{" + ",".join(f'"{n}{"x" * 90}":1' for n in range(30)) + ', "event": "' + "y" * 500 + '"}')
    assert len(wide) < SHOWN_KEYS * 50 + 100
    assert describe(b"RIFF....WAVE" + bytes(32)) == "a WAV header in 44 bytes"
    assert describe(b"") == "0 bytes that begin with "
    assert describe("{}") == "text message with JSON, keys none"
