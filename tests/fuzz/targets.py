"""What reads bytes from outside, one function each: anything may come, and only documented errors may leave.

Each target also checks that the reader does not depend on where a stream is cut, and reads a good input afterward.
`tools/fuzz` searches for inputs with them, and tests/unit/test_fuzz_corpora.py replays what was found.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from bridge import dialects
from bridge.ari.model import decode_event
from bridge.audio import rtp, wav
from bridge.audio.audiosocket import MessageDecoder, MessageKind, encode
from bridge.audio.format import slin
from bridge.audio.raw import RawAudio
from bridge.calls.facts import call_facts
from bridge.calls.model import CallModel
from bridge.calls.records import Records
from bridge.config import PbxConfig
from bridge.dialects.base import CallInfo, Dialect, TrackInfo
from bridge.errors import AsteriskProtocolError, ClientProtocolError
from bridge.events.hub import Events
from bridge.flows import expression
from bridge.flows.program import Document
from bridge.flows.syntax import InvalidFlow
from bridge.flows.syntax import parse as parse_flow
from bridge.flows.variables import Variables, VariablesFull
from bridge.media.response_head import NotHttp
from bridge.media.response_reader import AnswerReader

Target = Callable[[bytes], None]

_CALL = CallInfo("1755940023.7", "inbound", "+15550100", "1001", "+15550199")
_OPTIONS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "exotel": [{"connect": True}, {"connect": True, "encoding": "mulaw"}],
    "plivo": [{"connect": True}],
    "telnyx": [{"connect": True}, {"connect": True, "encoding": "PCMA"}],
    "audiohook": [{"connect": True}],
    "chan_websocket": [
        {"connect": True},
        {"connect": True, "encoding": "ulaw", "control_message_format": "plain-text"},
    ],
    "jambonz": [{"connect": True}],
    "twilio": [{"connect": True}, {"connect": True, "encoding": "l16", "rate": 16000}],
    "vonage": [{"connect": True}],
    "voipbin": [
        *({"encapsulation": each} for each in ("rtp", "sln", "audiosocket")),
        {"encapsulation": "sln", "control": True},
    ],
}
"""Of dialects that read differently with other options."""
_GOOD_RESPONSE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"


def _pieces(data: bytes) -> list[bytes]:
    """Cut a stream into pieces whose lengths its own bytes decide."""
    pieces, at = [], 0
    while at < len(data):
        size = 1 + data[at] % 40
        pieces.append(data[at : at + size])
        at += size
    return pieces


def ari_events(data: bytes) -> None:
    """Lines of the events WebSocket, to the model and the records of calls."""
    model, records = CallModel("bridge"), Records(Events(lambda: 0.0), lambda: 0.0)
    for line in data.split(b"\n"):
        try:
            event = decode_event(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        for change in model.apply(event, 0.0):
            records.on_change(change)
        records.on_event(event)
        for channel_id in model.take_unplaced():
            for change in model.learn_linkedid(channel_id, channel_id, 0.0):
                records.on_change(change)
        for call in model.calls.values():
            assert call_facts(call, PbxConfig())
    for change in model.reconcile([], {}, [], 0.0):
        records.on_change(change)
    records.channels_there(set(), records.channels)
    assert not model.calls
    assert not records.live()


def audiosocket(data: bytes) -> None:
    """Asterisk's byte stream, whole and in pieces."""

    def read(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], bool]:
        decoder, messages = MessageDecoder(), []
        for piece in pieces:
            try:
                messages += decoder.feed(piece)
            except AsteriskProtocolError:
                return messages, False
        return messages, True

    whole, good = read([data])
    cut, also_good = read(_pieces(data))
    assert good == also_good
    assert not good or whole == cut
    assert MessageDecoder().feed(encode(MessageKind.SLIN, bytes(320))) == [(MessageKind.SLIN, bytes(320))]


def rtp_packets(data: bytes) -> None:
    """Decode one packet."""
    try:
        packet = rtp.parse(data)
    except ValueError:
        return
    assert data.endswith(packet.payload) or data[0] & 0x20


def wav_files(data: bytes) -> None:
    """Read a file, and blocks of bare audio that may hold one."""
    with contextlib.suppress(ValueError):
        wav.parse_header(data)
    wav.read_sound(data)
    reader = RawAudio(slin(8000))
    for piece in _pieces(data):
        for pcm in reader.receive(piece):
            assert len(pcm[0]) % 2 == 0


def dialect_messages(data: bytes) -> None:
    """Decode messages in every dialect; a line that begins with ``b`` is a binary one."""
    for name, dialect in dialects.known().items():
        for options in _OPTIONS.get(name, ({},)):
            _converse(dialect.create(options), data)


def _converse(stream: Dialect, data: bytes) -> None:
    stream.opened(_CALL, ["inbound"], 0.0, 0.0)
    stream.track_started(TrackInfo("inbound"), 0.0)
    for line in data.split(b"\n"):
        message = line[1:] if line[:1] == b"b" else line.decode("utf-8", "replace")
        try:
            stream.receive(message)
        except ClientProtocolError:
            break
    stream.audio("inbound", bytes(320), 0.02)
    stream.closed("normal", 1.0)


def flows(data: bytes) -> None:
    """Check a flow of either syntax."""
    try:
        flow = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        parse_flow(flow)
    except InvalidFlow as invalid:
        if not invalid.errors:
            raise


def expressions(data: bytes) -> None:
    """Evaluate a condition of a flow, and text with variables."""
    text = data.decode("utf-8", "replace")
    variables = Variables({"name": text, "digits": "159"})
    variables.fill(text)
    for fill in (variables.fill_url, lambda body: variables.fill_body(body, "application/json")):
        with contextlib.suppress(ValueError):
            fill(text)
    with contextlib.suppress(VariablesFull):
        variables.check(text)
    try:
        condition = expression.parse(text)
    except ValueError:
        return
    condition(variables)


def http_responses(data: bytes) -> None:
    """Parse a server's response to a WebSocket request."""
    reader = AnswerReader()
    for piece in _pieces(data):
        try:
            reader.feed(piece)
        except NotHttp:
            break
    if reader.answer is not None:
        reader.answer.words(reader.body, ["a secret"])
        reader.answer.upgrade()
        assert reader.answer.retry_after_s(0.0) >= 0
    good = AnswerReader()
    good.feed(_GOOD_RESPONSE)
    assert good.answer is not None
    assert (good.answer.status, good.body) == (503, b"busy")


def twiml_documents(data: bytes) -> None:
    """Parse a document, whose verbs and attributes may be anything."""
    with contextlib.suppress(InvalidFlow):
        parse_flow(Document(data.decode("utf-8", "replace"), "https://app.example.org/voice"))


TARGETS: Mapping[str, Target] = {
    target.__name__: target
    for target in (
        ari_events,
        audiosocket,
        rtp_packets,
        wav_files,
        dialect_messages,
        flows,
        expressions,
        http_responses,
        twiml_documents,
    )
}
