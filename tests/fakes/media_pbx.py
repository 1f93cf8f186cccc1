"""A fake PBX whose AudioSocket connections are in memory: real taps and media legs work on it, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from bridge.audio.audiosocket import HEADER_BYTES
from bridge.calls.ids import OwnIds
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener
from bridge.taps.taps import Taps
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.pbx import FakePbx
from tests.fakes.pbx_state import FakeChannel, Json

FRAME_S = 0.02


class MemoryWire:
    """One AudioSocket connection: takes a frame every 20 ms, as a phone's clock does.

    Args:
        leg: the bridge's.
        on_hang_up: called when our side hangs up.
        audible: returns whether a party receives the audio from asterisk-bridge. Asterisk discards it while the
            channel is outside all bridges.
    """

    def __init__(self, leg: MediaLeg, on_hang_up: Callable[[], None], audible: Callable[[], bool]) -> None:
        self.leg = leg
        self.heard = b""
        """Audio that came from us and was received, without the silence that fills pauses."""
        self.frames = 0
        """How many frames came from us, with those of silence."""
        self.ended = False
        self._on_hang_up = on_hang_up
        self._audible = audible
        leg.attach(self)
        self._timer = asyncio.get_running_loop().call_later(FRAME_S, self._tick)

    @property
    def write(self) -> Callable[[bytes], None]:
        """What our side writes with."""
        return self._written

    def hang_up(self) -> None:
        """End the connection from our side."""
        self._on_hang_up()

    def hand_over(self, leg: MediaLeg) -> None:
        """Be the connection of another leg."""
        self.leg = leg
        leg.attach(self)

    def end(self) -> None:
        """End the connection from Asterisk's side, or because the network breaks."""
        if not self.ended:
            self.ended = True
            self._timer.cancel()
            self.leg.detach()

    def _written(self, message: bytes) -> None:
        audio = message[HEADER_BYTES:]
        self.frames += 1
        if any(audio) and self._audible():
            self.heard += audio

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(FRAME_S, self._tick)
        self.leg.tick(1)


class MediaPbx(FakePbx):
    """Connects external media, and what runs AudioSocket() in the dialplan, with the legs that expect it.

    ConfBridge() of the dialplan is a bridge of its own.

    Args:
        listener: expects the legs; it need not listen.
    """

    def __init__(self, listener: Listener, app: str = "bridge") -> None:
        super().__init__(app)
        self.wires: dict[str, MemoryWire] = {}
        """Connections by channel, those that have ended too."""
        self.deaf = False
        """Its connections do not come to us."""
        self._listener = listener
        self.on_external_media = lambda channel, params: self._connect(channel.id, str(params["data"]))

    @property
    def heard(self) -> bytes:
        """What came on all connections, in the order in which they were opened."""
        return b"".join(wire.heard for wire in self.wires.values())

    def wire_in(self, bridge_id: str) -> MemoryWire:
        """Return the one connection whose channel is in a bridge."""
        (wire,) = (wire for channel_id, wire in self.wires.items() if self.bridge_of(channel_id) == bridge_id)
        return wire

    def break_media(self, *channel_ids: str) -> None:
        """Have connections break: those of some channels, or all."""
        for channel_id in channel_ids or tuple(self.wires):
            self._lose(channel_id)

    def run(self, channel_id: str, application: str, data: str = "") -> None:
        super().run(channel_id, application, data)
        if application == "AudioSocket":
            self._connect(channel_id, self.channels[channel_id].variables["MEDIA_LEG_UUID"], application=True)
        elif application == "ConfBridge":
            self.enter_bridge(f"room-{data}", channel_id)

    def emit(
        self, kind: str, channel: FakeChannel | None = None, *, bridge: Json | None = None, **more: object
    ) -> None:
        super().emit(kind, channel, bridge=bridge, **more)
        if kind == "ChannelDestroyed" and channel is not None and channel.id in self.wires:
            self.wires[channel.id].end()

    def _connect(self, channel_id: str, uuid: str, *, application: bool = False) -> None:
        leg = None if self.deaf else self._listener.claim(UUID(uuid), "127.0.0.1")
        if leg is not None:
            self.wires[channel_id] = MemoryWire(
                leg, lambda: self._lose(channel_id), lambda: application or self.bridge_of(channel_id) is not None
            )

    def _lose(self, channel_id: str) -> None:
        self.wires[channel_id].end()
        if channel_id in self.channels:  # Asterisk ends the channel of a connection that has ended
            self._end_soon(channel_id)

    def _end_soon(self, channel_id: str) -> None:
        def end() -> None:
            if channel_id in self.channels:
                self.hang_up(channel_id)

        asyncio.get_running_loop().call_soon(end)


def taps_with(*bridge_ids: str) -> Taps:
    """Return taps on a PBX of their own that has these bridges."""
    listener = Listener(Counters())
    pbx = MediaPbx(listener)
    client = FakeAriClient(pbx)
    client.connect()
    for bridge_id in bridge_ids:
        pbx.handle("POST", "/bridges", {"bridgeId": bridge_id})
    return Taps(client, listener, OwnIds(pbx.app), lambda: "127.0.0.1:9092")
