"""AudioSocket messages as bytes: kind, 16-bit big-endian length, payload.

Source: Asterisk 22.10, ``res/res_audiosocket.c``. Asterisk hangs the channel up if it receives a kind other than HANGUP
and audio, audio of length 0, or a payload more than 5 ms after its header: write each message in one piece.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

from bridge.audio.format import slin
from bridge.errors import AsteriskProtocolError


class MessageKind(IntEnum):
    """The kind of a message."""

    HANGUP = 0x00
    """Ends the connection cleanly; no payload. Asterisk accepts but never sends it."""
    UUID = 0x01
    """First message of every connection: 16 bytes in RFC 4122 order."""
    DTMF = 0x03
    """End of a DTMF digit: one ASCII character."""
    SLIN = 0x10
    """Audio, s16le mono at 8000 Hz; the following kinds differ in their rate only (Asterisk 22.7 and later)."""
    SLIN12 = 0x11
    SLIN16 = 0x12
    SLIN24 = 0x13
    SLIN32 = 0x14
    SLIN44 = 0x15
    SLIN48 = 0x16
    SLIN96 = 0x17
    SLIN192 = 0x18
    ERROR = 0xFF
    """Documented, never sent by Asterisk 22; an optional byte holds the reason."""


ALIKE_AT_ONCE: Final = 1024
"""Messages that `alike` compares in one call: an unlimited number would take quadratic time on mixed messages."""

RATE_OF_KIND: Final[dict[int, int]] = {
    MessageKind.SLIN: 8000,
    MessageKind.SLIN12: 12000,
    MessageKind.SLIN16: 16000,
    MessageKind.SLIN24: 24000,
    MessageKind.SLIN32: 32000,
    MessageKind.SLIN44: 44100,
    MessageKind.SLIN48: 48000,
    MessageKind.SLIN96: 96000,
    MessageKind.SLIN192: 192000,
}
"""Sampling rate in Hz of every audio kind."""

HEADER_BYTES: Final = 3
MAX_PAYLOAD_BYTES: Final = 0xFFFF
HANGUP_MESSAGE: Final = b"\x00\x00\x00"

_HEADER = Struct("!BH")
_HANGUP, _ERROR = int(MessageKind.HANGUP), int(MessageKind.ERROR)  # plain integers: attributes of an enum are slow
_KIND_OF_RATE = {rate: MessageKind(kind) for kind, rate in RATE_OF_KIND.items()}
# Minimum and maximum length by kind: one look-up validates a header.
_LENGTHS: Final[dict[int, tuple[int, int]]] = {
    MessageKind.HANGUP: (0, 0),
    MessageKind.UUID: (16, 16),
    MessageKind.DTMF: (1, 1),
    MessageKind.ERROR: (0, MAX_PAYLOAD_BYTES),
    **dict.fromkeys(RATE_OF_KIND, (1, MAX_PAYLOAD_BYTES)),
}


def kind_of_rate(rate: int) -> MessageKind:
    """Return the audio kind of a sampling rate in Hz.

    Raises:
        ValueError: AudioSocket has no kind for ``rate``.
    """
    try:
        return _KIND_OF_RATE[rate]
    except KeyError:
        known = ", ".join(str(each) for each in _KIND_OF_RATE)
        raise ValueError(f"AudioSocket does not support {rate} Hz; expected one of {known}") from None


def encode(kind: int, payload: bytes) -> bytes:
    """Return one encoded message.

    Raises:
        ValueError: the payload is longer than 65535 bytes.
    """
    size = len(payload)
    if size > MAX_PAYLOAD_BYTES:
        raise ValueError(f"an AudioSocket payload has at most {MAX_PAYLOAD_BYTES} bytes, not {size}")
    return _HEADER.pack(kind, size) + payload


def fault_of_header(kind: int, length: int) -> str | None:
    """Return a description of the fault of a header; None if it is valid."""
    limits = _LENGTHS.get(kind)
    if limits is None:
        return f"unknown AudioSocket kind 0x{kind:02x} (length {length})"
    if not limits[0] <= length <= limits[1]:
        return f"AudioSocket kind 0x{kind:02x} cannot have a payload of {length} bytes"
    return None


def alike(data: bytes, at: int, step: int) -> int:
    """Return the number of consecutive messages with the same header, from 1 to `ALIKE_AT_ONCE`.

    Args:
        data: whole messages, perhaps followed by a part of one.
        at: offset of the first message.
        step: length of a message with its header, in bytes.
    """
    if not data.startswith(data[at : at + HEADER_BYTES], at + step):
        return 1
    count = min((len(data) - at) // step, ALIKE_AT_ONCE)
    for offset in range(at, at + HEADER_BYTES):
        column = data[offset : at + count * step : step]
        count = min(count, len(column) - len(column.lstrip(column[:1])))
    return count


def payloads(data: bytes, at: int, step: int, count: int) -> bytes:
    """Return the joined payloads of ``count`` messages of ``step`` bytes each, beginning at ``at``."""
    import numpy as np  # Asterisk never sends so many small messages

    messages = np.frombuffer(data, np.uint8, count * step, at).reshape(count, step)
    return messages[:, HEADER_BYTES:].tobytes()


def looks_framed(data: bytes, most: int) -> bool:
    """Return whether bytes, at least `HEADER_BYTES`, are a chain of messages; the last may be incomplete.

    Args:
        data: the bytes.
        most: limit of runs of equal messages that are checked.
    """
    at, size = 0, len(data)
    for _ in range(most):
        if at + HEADER_BYTES > size:
            break
        kind, length = data[at], data[at + 1] << 8 | data[at + 2]
        if kind == _ERROR or fault_of_header(kind, length):
            return False
        end = at + HEADER_BYTES + length
        if kind == _HANGUP:
            return end == size  # three zeros are a hang-up, a row of them is bare silence
        if end > size:
            # A lone header could be two samples. One that promises a multiple of 10 ms is evidence: samples look like
            # that in one of several thousand cases.
            return at > 0 or (kind in RATE_OF_KIND and length % slin(RATE_OF_KIND[kind]).bytes_of(10) == 0)
        at = end if end == size else at + alike(data, at, end - at) * (end - at)
    return True


class MessageDecoder:
    """Decodes messages from a byte stream that is split and joined arbitrarily."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of an incomplete message."""
        return len(self._pending)

    def feed(self, data: bytes | bytearray | memoryview) -> list[tuple[int, bytes]]:
        """Return the messages that ``data`` completes, as (kind, payload) pairs.

        ``data`` is not kept, so its buffer may be reused.

        Raises:
            AsteriskProtocolError: a header is invalid. The stream has lost its framing, so close the connection;
                earlier messages in the same ``data`` are lost.
        """
        pending = self._pending
        if pending:
            pending += data
            messages, used = _split(bytes(pending))
            del pending[:used]
            return messages
        size = len(data)
        if size > HEADER_BYTES:
            kind = data[0]
            if kind in RATE_OF_KIND and (data[1] << 8 | data[2]) == size - HEADER_BYTES:
                return [(kind, bytes(data[HEADER_BYTES:]))]  # one whole audio message, as Asterisk sends them
        messages, used = _split(bytes(data))
        if used != size:
            pending += data[used:]
        return messages


def _split(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Return the whole messages at the beginning of ``data``, and their total length in bytes.

    Raises:
        AsteriskProtocolError: a header is invalid, even if its payload is incomplete.
    """
    messages: list[tuple[int, bytes]] = []
    size = len(data)
    start = 0
    while size - start >= HEADER_BYTES:
        kind, length = _HEADER.unpack_from(data, start)
        if fault := fault_of_header(kind, length):
            raise AsteriskProtocolError(fault)
        end = start + HEADER_BYTES + length
        if end > size:
            break
        messages.append((kind, data[start + HEADER_BYTES : end]))
        start = end
    return messages, start
