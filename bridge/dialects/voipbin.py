"""VoIPBIN ``media_stream``: bare binary audio in one of three encapsulations, one track, no handshake.

Source: VoIPBIN's media stream tutorial, and its monorepo at 2bf22fa4 (2026-08) where the tutorial contradicts itself.
Precedence of the sources, and the extensions: ``docs/decisions/voipbin-media-stream.md``.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from bridge.audio import audiosocket, g711, rtp, wav
from bridge.audio.audiosocket import RATE_OF_KIND, MessageKind
from bridge.audio.format import FRAME_MS, SLIN_RATES, AudioFormat, Encoding, slin
from bridge.audio.framing import Framer
from bridge.audio.held_audio import HeldAudio
from bridge.audio.raw import RawAudio, WholeSamples
from bridge.dialects import text_control
from bridge.dialects.base import CallInfo, Command, Dialect, Dtmf, Mark, Message, Play, Send, Setting, Stop
from bridge.dialects.encapsulation import DRAINED, Encapsulation, Watched
from bridge.dialects.text_control import MAX_DIGITS, digits_of
from bridge.errors import ClientProtocolError

ENCAPSULATIONS: Final = ("rtp", "sln", "audiosocket")
GAP_S: Final = 0.06
"""Delay in seconds beyond the expected arrival that counts as a gap: the RTP packet after a gap carries the marker."""
MAX_INNER_MESSAGES: Final = 60_000
"""AudioSocket messages in one WebSocket message: 20 minutes in frames of 20 ms. Parsing them blocks the event loop."""
MAX_HEADERS: Final = 5_000
"""Headers in one WebSocket message that differ from the one before: each is parsed separately."""
MAX_KIND_CHANGES: Final = 100
"""Changes between kinds of AudioSocket messages in one WebSocket message; each creates a command."""

_OWN: Final = "own:"  # begins the names of marks of an application that receives text about the queue
_SHOWN_CHARACTERS: Final = 100
_MORE_WITH_CONTROL: Final = (
    ', {"event": "queue"}, {"event": "hangup"}, {"event": "hangup", "hangup": {"after_playout": true}}, '
    '{"event": "transfer", "transfer": {"destination": {"type": "extension", "target": "..."}}}'
)
_MESSAGE_MS: Final = float(FRAME_MS)
_RTP_RATE = 8000
_KEYS = frozenset(bytes((key,)) for key in b"0123456789ABCDabcd*#")
_HANGUP, _DTMF = int(MessageKind.HANGUP), int(MessageKind.DTMF)  # plain integers: attributes of an enum are slow
_PT_OF = {Encoding.ULAW: rtp.PT_ULAW, Encoding.ALAW: rtp.PT_ALAW, Encoding.SLIN: rtp.PT_SLIN}
_ENCODE: dict[Encoding, Callable[[bytes], bytes] | None] = {
    Encoding.ULAW: g711.ulaw_encode,
    Encoding.ALAW: g711.alaw_encode,
    Encoding.SLIN: None,
}


class Voipbin(Dialect):
    """One VoIPBIN media stream.

    Args:
        encapsulation: ``rtp``, ``sln`` or ``audiosocket``.
        codec: ``ulaw``, ``alaw`` or ``slin``; by default ``ulaw`` with rtp and ``slin`` with the others.
        rate: sampling rate in Hz, by default 8000; others only for slin with sln and audiosocket.
        headers: messages to the application have AudioSocket headers, with audiosocket; None: like the first message
            from the application, with headers if none arrives within `bridge.audio.held_audio.FIRST_MESSAGE_S`.
        control: the application receives text messages too: facts about the call, DTMF digits, the state of the queue
            and errors; and may request a hang-up or a transfer.
        rng: source of the SSRC and of the first RTP sequence number, for tests.

    Raises:
        ValueError: the options are invalid or conflict; the message is for the application's author.
    """

    name: ClassVar[str] = "voipbin"
    flow_options: ClassVar[Mapping[str, Any]] = {"encapsulation": "rtp"}
    track_set: ClassVar[Literal["open", "fixed", "single"]] = "single"
    default_of: ClassVar[frozenset[str]] = frozenset({"media_stream", "external_media_start"})
    shown_options: ClassVar[frozenset[str]] = frozenset({"encapsulation", "codec"})

    def __init__(
        self,
        encapsulation: str = "",
        codec: str | None = None,
        rate: int | None = None,
        headers: bool | None = True,
        *,
        control: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        fmt = _format(encapsulation, codec, rate)
        if headers is not None and not isinstance(headers, bool):
            raise ValueError(f"headers must be true or false, not {headers!r}")
        if not headers and encapsulation != "audiosocket":
            raise ValueError(f"encapsulation={encapsulation} does not support headers. Omit headers")
        if not isinstance(control, bool):
            raise ValueError(f"control must be true or false, not {control!r}")
        self.rate = fmt.rate
        self.two_way = True
        self.replays = True
        self.message_ms = _MESSAGE_MS
        self._control = control
        self._sets_marks = control
        self._format = {"encapsulation": encapsulation, "codec": str(fmt.encoding), "rate": fmt.rate}
        self._framer = Framer(slin(fmt.rate).frame_bytes)
        self._encapsulation: Encapsulation
        me = weakref.proxy(self)  # a reference would be a cycle: the encapsulation belongs to this object

        def discard(message: bytes) -> None:
            me.discard(message)

        if encapsulation == "rtp":
            self._encapsulation = _Rtp(fmt, discard, rng or random.SystemRandom())
        elif encapsulation == "sln":
            self._encapsulation = _Sln(fmt, discard)
        else:
            self._encapsulation = _AudioSocket(fmt, discard, headers)
        if control:
            self._encapsulation = Watched(self._encapsulation)
        self._expected = (
            f"binary messages with {fmt.encoding} at {fmt.rate} Hz (encapsulation={encapsulation}), or text: "
            '{"event": "clear"}, {"event": "mark", "name": "..."}, {"event": "dtmf", "dtmf": {"digits": "..."}}'
            + (_MORE_WITH_CONTROL if control else "")
        )

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options; by default, frame audio to a two-way application as it frames its own."""
        if options.get("encapsulation") == "audiosocket" and setting.two_way:
            return {"headers": None, **options}
        return options

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        return self._expected

    def connected(self, now: float) -> None:
        """Begin to wait for the first message from the application."""
        self._encapsulation.connected(now)

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Return one message for every 20 ms, whatever the size of the blocks."""
        framer = self._framer
        if len(pcm) == framer.frame_bytes and not framer.waiting:  # as Asterisk nearly always sends it
            return self._encapsulation.wrap(pcm, now)
        wrap = self._encapsulation.wrap
        return [message for frame in framer.push(pcm) for message in wrap(frame, now)]

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Return facts about the call and the format, if the application wants text."""
        if not self._control:
            return ()
        return (text_control.event("start", call.facts | {"tracks": list(tracks), **self._format}),)

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """Report a DTMF digit, if the application wants text."""
        return (text_control.event("dtmf", {"digits": digit}),) if self._control else ()

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """Return messages that are held back, and the reason, if the application wants text."""
        last = (text_control.event("stop", {"reason": reason}),) if self._control else ()
        return (*self._encapsulation.rest(), *last)

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:
        """Report a mark, or a queue that has run dry; only applications that want text or set a mark receive some."""
        if not name.startswith(DRAINED) or not self._control:
            return (text_control.event("mark", {"name": name.removeprefix(_OWN) if self._control else name}),)
        latest = isinstance(self._encapsulation, Watched) and name == self._encapsulation.last_mark
        return (text_control.event("drained"),) if latest else ()

    def audio_refused(self, duration_ms: float, now: float) -> Sequence[Message]:
        """Report refused audio to an application that has set a mark; others may play text messages as audio."""
        if not self._sets_marks:
            return ()
        return (text_control.event("refused", {"duration_ms": round(duration_ms)}),)

    def request_answered(self, name: str, answer: Mapping[str, Any], now: float, error: str = "") -> Sequence[Message]:
        """Report the outcome of a hang-up or a transfer."""
        if error:
            return (text_control.event("error", {"message": error, "received": name, **answer}),)
        return (text_control.event(name, answer),)

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode audio in a binary message, control in text; only an AudioSocket hang-up ends the stream."""
        if isinstance(message, bytes):
            return self._encapsulation.unwrap(message) if message else ()
        control = text_control.decoded(message)
        if self._control and control is not None and control.event == "queue":
            return (Send(text_control.event("queue", {"buffered_ms": round(self.queued_ms())})),)
        command = text_control.command(control, may_change_call=self._control) if control is not None else None
        if command is None:
            self.discard(message)
            return self._not_understood(message)
        if isinstance(command, Mark):
            self._sets_marks = True
            return (Mark(_OWN + command.name),) if self._control else (command,)
        return (command,)

    def _not_understood(self, message: str) -> Sequence[Command]:
        if not self._control:
            return ()
        body = {"message": "not understood", "received": message[:_SHOWN_CHARACTERS], "expected": self._expected}
        return (Send(text_control.event("error", body)),)


def _format(encapsulation: str, codec: str | None, rate: int | None) -> AudioFormat:
    if encapsulation not in ENCAPSULATIONS:
        raise ValueError(f"encapsulation must be one of {', '.join(ENCAPSULATIONS)}, not {encapsulation!r}")
    try:
        encoding = Encoding(codec or ("ulaw" if encapsulation == "rtp" else "slin"))
    except ValueError:
        raise ValueError(f"codec must be one of {', '.join(Encoding)}, not {codec!r}") from None
    rate = _RTP_RATE if rate is None else rate
    if encapsulation == "audiosocket" and encoding is not Encoding.SLIN:
        raise ValueError(f"encapsulation=audiosocket carries codec=slin only, not {encoding}; use rtp or sln for it")
    if rate not in SLIN_RATES:
        raise ValueError(f"rate must be one of {', '.join(map(str, SLIN_RATES))}, not {rate}")
    if rate != _RTP_RATE and encapsulation == "rtp":
        raise ValueError(
            f"encapsulation=rtp is 8000 Hz only, not {rate}: payload types 0, 8 and 96 define it; "
            "use sln or audiosocket for wider audio"
        )
    if rate != _RTP_RATE and encoding is not Encoding.SLIN:
        raise ValueError(f"codec={encoding} is 8000 Hz only, not {rate}; use codec=slin for wider audio")
    return slin(rate) if encoding is Encoding.SLIN else AudioFormat(encoding, rate)


def _play_raw(raw: RawAudio, message: bytes) -> Sequence[Command]:
    return [Play(pcm, rate) for pcm, rate in raw.receive(message)]


class _Sln(Encapsulation):
    """Samples without headers."""

    __slots__ = ("_encode", "_rate", "_raw")

    def __init__(self, fmt: AudioFormat, discard: Callable[[bytes], None]) -> None:
        self._encode = _ENCODE[fmt.encoding]
        self._rate = fmt.rate
        self._raw = RawAudio(fmt, discard)

    def wrap(self, frame: bytes, now: float) -> list[bytes]:
        return [self._encode(frame) if self._encode else frame]

    def unwrap(self, message: bytes) -> Sequence[Command]:
        if self._raw.plain and not len(message) & 1 and not message.startswith(wav.MAGIC):
            return [Play(message, self._rate)]
        return _play_raw(self._raw, message)


class _Rtp(Encapsulation):
    """RTP packets; or bare audio in the stream's codec, from an application that omits headers."""

    def __init__(self, fmt: AudioFormat, discard: Callable[[bytes], None], rng: random.Random) -> None:
        self._encode = _ENCODE[fmt.encoding]
        self._samples = fmt.frame_samples
        self._frame_s = fmt.frame_samples / fmt.rate
        self._packetizer = rtp.Packetizer(_PT_OF[fmt.encoding], rng.getrandbits(32), rng.getrandbits(16))
        self._now = float("-inf")  # of the last frame
        self._due = float("-inf")  # when the frame after it should come
        self._has_headers: bool | None = None  # None: unknown before the first message
        self._discard = discard
        self._bare = RawAudio(fmt, discard)
        self._linear = WholeSamples()

    def wrap(self, frame: bytes, now: float) -> list[bytes]:
        marker = now > self._due + GAP_S
        # Frames cut from one block arrive together; only in sum do they last as long as the block.
        self._due = (self._due if now == self._now else now) + self._frame_s
        self._now = now
        return [self._packetizer.packet(self._encode(frame) if self._encode else frame, self._samples, marker)]

    def unwrap(self, message: bytes) -> Sequence[Command]:
        if message[0] == 0 and message.count(0) == len(message):
            self._discard(message)  # the tutorial's browser sample; mu-law decodes it to full scale
            return ()
        if self._has_headers is False:
            return _play_raw(self._bare, message)
        try:
            packet = rtp.parse(message)
        except ValueError:
            packet = None
        if self._has_headers is None:
            if packet is None or _looks_bare(message, packet):
                self._has_headers = False
                return _play_raw(self._bare, message)
            if packet.payload_type in _PT_OF.values():
                self._has_headers = True
        pcm = self._decode(packet) if packet else None
        if pcm is None:
            self._discard(message)
            return ()
        return [Play(pcm, _RTP_RATE)] if pcm else []

    def _decode(self, packet: rtp.RtpPacket) -> bytes | None:
        """Return the samples; None for an unsupported codec. L16 (10, 11) is unsupported: big-endian at 44.1 kHz."""
        match packet.payload_type:
            case rtp.PT_ULAW:
                return g711.ulaw_decode(packet.payload)
            case rtp.PT_ALAW:
                return g711.alaw_decode(packet.payload)
            case rtp.PT_SLIN:
                return self._linear.push(packet.payload)
        return None


def _looks_bare(message: bytes, packet: rtp.RtpPacket) -> bool:
    """Return whether a first message that parses as RTP is more probably bare G.711.

    One in four messages of loud mu-law begins with the two bits of RTP's version. A message that is a multiple of 10 ms
    only with its header, or longer than a datagram, is not a packet.
    """
    size = len(message)
    return size > rtp.MAX_PACKET_BYTES or (size % 80 == 0 and len(packet.payload) % 80 != 0)


class _AudioSocket(Encapsulation):
    """AudioSocket messages; or bare slin, from and to an application that omits headers."""

    def __init__(self, fmt: AudioFormat, discard: Callable[[bytes], None], headers: bool | None) -> None:
        self._follows = headers is None  # send headers as the application does
        self._headers = headers  # of what is sent; None: not decided yet, frames are held back
        self._held = HeldAudio()
        self._kind = audiosocket.kind_of_rate(fmt.rate)
        self._discard = discard
        self._bare = RawAudio(fmt, discard)
        self._has_headers: bool | None = None  # None: unknown before the first message
        self._lost = False  # after a bad header, resume at the next message that begins with a valid one
        self._pending = b""
        self._whole = WholeSamples()
        self._whole_kind: int = self._kind

    def wrap(self, frame: bytes, now: float) -> list[bytes]:
        if self._headers is None:
            return self._hold(frame, now)
        return [audiosocket.encode(self._kind, frame) if self._headers else frame]

    def _hold(self, frame: bytes, now: float) -> list[bytes]:
        """Hold a frame back until the application's first message shows whether it uses headers, or a timeout."""
        long_enough = self._held.hold(frame, now)
        return self.rest() if self._has_headers is not None or long_enough else []

    def connected(self, now: float) -> None:
        self._held.connected(now)

    def rest(self) -> list[bytes]:
        if self._headers is None:
            self._headers = self._has_headers is not False
        return [message for frame in self._held.release() for message in self.wrap(frame, 0.0)]

    def unwrap(self, message: bytes) -> Sequence[Command]:
        if self._has_headers is False:
            return _play_raw(self._bare, message)
        data = self._pending + message if self._pending else message
        if self._has_headers is None or self._lost:
            if len(data) < audiosocket.HEADER_BYTES:
                self._pending = data
                return ()
            self._pending = b""
            if not audiosocket.looks_framed(data, MAX_HEADERS):
                if self._lost:
                    self._discard(data)
                    return ()
                self._has_headers = False
                if self._follows and self._headers:  # the first message came after the timeout
                    self._headers = False
                return _play_raw(self._bare, data)
            self._has_headers = True
            self._lost = False
        return self._messages(data)

    def _messages(self, data: bytes) -> list[Command]:
        commands: list[Command] = []
        inner = headers = changes = 0
        run: list[bytes] = []  # messages of one kind become one command, however many
        run_kind = -1
        at, size = 0, len(data)
        while at + audiosocket.HEADER_BYTES <= size:
            kind, length = data[at], data[at + 1] << 8 | data[at + 2]
            inner += 1
            headers += 1
            if headers > MAX_HEADERS:
                raise ClientProtocolError(f"more than {MAX_HEADERS} changes of size in one message")
            if audiosocket.fault_of_header(kind, length):
                self._lost = True
                self._discard(data[at:])
                at = size
                break
            end = at + audiosocket.HEADER_BYTES + length
            if end > size:
                break
            payload = data[at + audiosocket.HEADER_BYTES : end]
            start, at = at, end
            if kind != run_kind:
                changes += 1
                if changes > MAX_KIND_CHANGES:
                    raise ClientProtocolError(f"more than {MAX_KIND_CHANGES} changes of kind in one message")
                commands += self._commands(run_kind, run)
                run = []
                run_kind = kind
            if kind in RATE_OF_KIND:
                run.append(payload)
                # Usually one message, or equal headers.
                if end < size and (alike := audiosocket.alike(data, start, end - start) - 1):
                    run.append(audiosocket.payloads(data, at, end - start, alike))
                    at += alike * (end - start)
                    inner += alike
                if inner > MAX_INNER_MESSAGES:
                    raise ClientProtocolError(f"more than {MAX_INNER_MESSAGES} AudioSocket messages in one message")
            elif kind == _HANGUP:
                commands.append(Stop("the application sent an AudioSocket hang-up"))
                at = size
                break
            elif kind == _DTMF and payload in _KEYS:
                run.append(payload)
            elif kind != MessageKind.UUID:  # AudioSocket clients begin with it; the id is known
                self._discard(data[start:end])
        commands += self._commands(run_kind, run)
        self._pending = data[at:]
        return commands

    def _commands(self, kind: int, run: list[bytes]) -> list[Command]:
        if not run:
            return []
        if kind == MessageKind.DTMF:
            return [
                Dtmf(digits_of(b"".join(run[i : i + MAX_DIGITS]).decode("latin-1")))
                for i in range(0, len(run), MAX_DIGITS)
            ]
        return self._play(kind, run)

    def _play(self, kind: int, run: list[bytes]) -> list[Command]:
        if kind != self._whole_kind:
            self._whole_kind = kind
            self._whole = WholeSamples()
        pcm = self._whole.push(run[0] if len(run) == 1 else b"".join(run))
        return [Play(pcm, RATE_OF_KIND[kind])] if pcm else []
