"""External media that Asterisk sends to somebody else's server by itself: none of its audio passes through us.

    party -- its bridge -- external media -- server            both ways, everybody
    party -- snoop -- bridge -- external media -- server       one way, or one party only

The channel stays where the server was found; what lies between it and the party is made anew when the party moves.
Every id is chosen before the act and deleted by id at the end, however far opening got.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import uuid4

from bridge.ari.client import AriClient
from bridge.ari.dispatch import call_safely
from bridge.ari.model import Channel, Event
from bridge.audio.format import AudioFormat, slin
from bridge.audio.playout import Playout
from bridge.calls.ids import OwnIds
from bridge.config.values import host_and_port
from bridge.control.legs import Leg
from bridge.dialects.base import CallInfo
from bridge.errors import AriError
from bridge.logs import Fields
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Denied
from bridge.streams.flow_options import TRANSPORT_OF, ExternalServer
from bridge.streams.origin import Origin
from bridge.taps.taps import OPEN_TIMEOUT_S, Join, Tap, Taps

log = logging.getLogger(__name__)

FEED_RATE = 8000
SILENCED_S = 5.0
"""How long a request for sensitive mode waits at most until each is disconnected from its party."""
NOT_COUNTED = (
    *("queued_ms", "unsent_ms", "dropped_to_application_ms", "dropped_from_application_ms", "discarded_messages"),
)
HINTS = {
    "rtp": " (Asterisk needs the modules chan_rtp.so and res_rtp_multicast.so for it)",
    "audiosocket": " (Asterisk could not connect, or lacks the module chan_audiosocket.so)",
}
"""What Asterisk's 500, its answer to every failure inside, most often means."""
PLACE_AGAIN_S = (0.2, 0.5, 1.0, 2.0)
"""Waits after the way to the party could not be made: it may just be on its way to another bridge."""


class ExternalHost:
    """One external media channel, from its creation to its end.

    Args:
        origin: what started it.
        call: what is known of the call.
        leg: the party.
        server: where Asterisk sends the audio.
        gate: what Asterisk may be told to send audio to.
        on_open: told once, when it is connected with its party.
        on_end: told once, when all is deleted, why it ended.
        is_sensitive: whether the server must not receive the party's audio now. None of it passes through us, so the
            channel is disconnected from the party meanwhile.
    """

    def __init__(
        self,
        stream_id: str,
        origin: Origin,
        call: CallInfo,
        leg: Leg,
        server: ExternalServer,
        *,
        client: AriClient,
        ids: OwnIds,
        taps: Taps,
        counters: Counters,
        gate: Gate,
        new_playout: Callable[[AudioFormat], Playout],
        on_open: Callable[[ExternalHost], object],
        on_end: Callable[[ExternalHost, str], object],
        is_sensitive: Callable[[], bool] = lambda: False,
    ) -> None:
        self.stream_id = stream_id
        self.origin = origin
        self.call = call
        self.leg = leg
        self.server = server
        self.media_id = ids.new("media")
        self.opened_at = time.time()
        self.live = False
        """It has been connected with its party."""
        self._client = client
        self._ids = ids
        self._taps = taps
        self._counters = counters
        self._gate = gate
        self._new_playout = new_playout
        self._on_open = on_open
        self._on_end = on_end
        self._is_sensitive = is_sensitive
        self.sensitive = False
        """It is disconnected from its party, whose call is in sensitive mode."""
        self._silenced = asyncio.Event()
        self._snoop_id: str | None = None
        self._mix_id: str | None = None
        self._feed: Tap | None = None
        self._joined: str | None = None
        self._placed: tuple[str, str | None] | None = None
        self._lost = False
        self._doubtful = False
        self._reason = ""
        self._stir = asyncio.Event()
        self._settled = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"external media {stream_id}")

    @property
    def name(self) -> Fields:
        """How the log calls it."""
        return Fields(stream=self.stream_id, channel=self.leg.id, external_host=self.server.host)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all channels and bridges that were made for it."""
        return [i for i in (self.media_id, self._snoop_id, self._mix_id) if i]

    @property
    def dialect_name(self) -> str:
        """What lists and events show as the dialect: Asterisk sends to the server, not we."""
        return "asterisk"

    @property
    def ended(self) -> bool:
        """Whether it has ended, or is about to."""
        return bool(self._reason) or self._task.done()

    @property
    def asked(self) -> Sequence[str]:
        """What is listened to."""
        return (self.server.listen,)

    def describe(self) -> Mapping[str, object]:
        """Return what lists of streams show; no audio is counted, as none passes through us."""
        return {
            "id": self.stream_id,
            "call_id": self.call.call_id,
            "channel_id": self.leg.id,
            "started_by": self.origin.started_by,
            "principal": self.origin.principal.id,
            "dialect": self.dialect_name,
            "direction_listen": self.server.listen,
            "live": self.live,
            "sensitive": self.sensitive,
            "opened_at": self.opened_at,
            **dict.fromkeys(NOT_COUNTED, 0),
        }

    def review(self) -> None:
        """Follow the party, which is in another bridge, or in none, and adopt or leave sensitive mode."""
        self._stir.set()

    async def silenced(self, timeout_s: float = SILENCED_S) -> None:
        """Wait until it is disconnected from its party, if its call is in sensitive mode; at most so many seconds."""
        if self._is_sensitive() and not self._task.done():
            self._silenced.clear()
            self._stir.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._silenced.wait()

    async def settled(self, timeout_s: float) -> None:
        """Until it is open or has failed, at most so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()

    async def wait(self) -> None:
        """Wait until all is deleted."""
        await asyncio.wait([self._task])

    def end(self, reason: str, *, code: int | None = None, handover_grace_s: float | None = None) -> None:  # noqa: ARG002
        """Let it end; the first reason counts. There is no WebSocket that the others would concern."""
        if not self._reason:
            self._reason = reason
            # A request that is under way is carried to its end first. Not now: a task that is canceled before its first
            # step does not even report its end.
            asyncio.get_running_loop().call_soon(self._task.cancel)

    async def _run(self) -> None:
        unsubscribe = (
            self._client.on_channel_event("ChannelDestroyed", self._on_destroyed),
            self._client.on_connected(self._on_connected),
        )
        try:
            await asyncio.sleep(0)  # it may have ended already
            await self._open()
            await self._stay()
        except AriError as error:
            hint = HINTS[self.server.encapsulation] if error.status == 500 else ""
            log.warning("%s failed: %s%s", self.name, error, hint)
            self._reason = self._reason or f"failed: {error.message}"
        except (Denied, OSError) as error:
            words = getattr(error, "strerror", None) or str(error) or "the name was not found in time"
            log.warning("%s failed: %s", self.name, words)
            self._reason = self._reason or f"failed: {words}"
        except Exception:
            log.exception("%s failed", self.name)
            self._reason = self._reason or "internal error"
        finally:
            for each in unsubscribe:
                each()
            await asyncio.shield(asyncio.ensure_future(self._close()))

    def _on_destroyed(self, channel: Channel, _: Event) -> None:
        if channel.id == self.media_id:
            self._lost = True
            self._stir.set()

    def _on_connected(self) -> None:
        self._doubtful = True  # its end may have been told while nobody listened
        self._stir.set()

    async def _open(self) -> None:
        server = self.server
        data = server.data
        external_host = await self._address()
        if server.encapsulation == "audiosocket":
            data = data or str(uuid4())
        with self._client.expect("StasisStart", self.media_id) as started:
            await self._client.channels.external_media(
                channel_id=self.media_id,
                external_host=external_host,
                encapsulation=server.encapsulation,
                transport=TRANSPORT_OF[server.encapsulation],
                format=server.format,
                data=data,
            )
            await started.wait(OPEN_TIMEOUT_S)

    async def _address(self) -> str:
        """Return the ``host:port`` to give to Asterisk: an address that was checked, so that it looks up no name.

        Raises:
            Denied: the policy denies all that there are.
            OSError: the host has none.
        """
        host, _, port = self.server.host.rpartition(":")
        name = host.removeprefix("[").removesuffix("]")
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            found = await self._gate.addresses(name, configured=self.server.configured)
        return host_and_port(found[0], int(port))

    async def _stay(self) -> None:
        waits = iter(PLACE_AGAIN_S)
        while not await self._is_over():
            self._stir.clear()
            if self._is_sensitive():
                await self._displace()
                self.sensitive = True
                self._silenced.set()
                await self._stir.wait()
                continue
            self.sensitive = False
            self._silenced.clear()
            way = ("" if self._joins else self.leg.id, self.leg.bridge_id if self._needs_bridge else None)
            if way != self._placed:
                try:
                    await self._displace()
                    await self._place()
                except AriError as error:
                    wait_s = next(waits, None)
                    if wait_s is None:
                        raise
                    log.warning("%s not connected with its party, trying again: %s", self.name, error)
                    await asyncio.sleep(wait_s)
                    continue
                waits = iter(PLACE_AGAIN_S)
                self._placed = way
                log.info("%s connected with its party", self.name)
                if not self.live:
                    self.live = True
                    self._settled.set()
                    call_safely(self._on_open, self)
            await self._stir.wait()

    @property
    def _joins(self) -> bool:
        """It is a member of the bridge that the party is in."""
        return self.leg.bridge_id is not None and self.server.listen == self.server.speak == "both"

    @property
    def _needs_bridge(self) -> bool:
        """It makes a difference in which bridge the party is."""
        return bool(self.server.speak)

    async def _is_over(self) -> bool:
        doubtful, self._doubtful = self._doubtful, False
        if doubtful and not self._lost:
            try:
                await self._client.channels.get(self.media_id)
            except AriError as error:
                self._lost = error.status == 404
        if self.leg.gone.is_set():
            self._reason = self._reason or "the call ended"
        elif self._lost:
            self._reason = self._reason or "the server ended it"
        return bool(self._reason)

    async def _place(self) -> None:
        listen, speak, bridge_id = self.server.listen, self.server.speak, self.leg.bridge_id
        if bridge_id is not None and self._joins:
            await self._client.bridges.add_channel(bridge_id, self.media_id)
            self._joined = bridge_id
            return
        snoop_id, mix_id = self._snoop_id, self._mix_id = self._ids.new("snoop"), self._ids.new("mix")
        with self._client.expect("StasisStart", snoop_id) as started:
            await self._client.channels.snoop(
                self.leg.id, snoop_id=snoop_id, spy=listen or "none", whisper=speak or "none"
            )
            await started.wait(OPEN_TIMEOUT_S)
        await self._client.bridges.create(bridge_id=mix_id, type="mixing", name=mix_id)
        await self._client.bridges.add_channel(mix_id, snoop_id)
        await self._client.bridges.add_channel(mix_id, self.media_id)
        if speak and bridge_id is not None:
            # A whisper is mixed into what the bridge sends to the party, and alone in it the party is sent nothing.
            fmt = slin(FEED_RATE)
            self._feed = await self._taps.open(MediaLeg(fmt, self._new_playout(fmt), self._counters), Join(bridge_id))

    async def _displace(self) -> None:
        """Undo what `_place` did."""
        self._placed = None
        feed, self._feed = self._feed, None
        joined, self._joined = self._joined, None
        if feed is not None:
            await self._taps.close(feed)
        if joined is not None:
            with contextlib.suppress(AriError):  # that bridge may be gone
                await self._client.bridges.remove_channel(joined, self.media_id)
        await self._delete_snoop()

    async def _delete_snoop(self) -> None:
        if self._snoop_id is not None:
            await self._client.channels.hangup(self._snoop_id)
            self._snoop_id = None
        if self._mix_id is not None:
            await self._client.bridges.destroy(self._mix_id)
            self._mix_id = None

    async def _close(self) -> None:
        try:
            if self._feed is not None:
                await self._taps.close(self._feed)
            await self._client.channels.hangup(self.media_id)
            await self._delete_snoop()
        except AriError as error:
            log.warning("%s left to the next sweep: %s", self.name, error)
        log.info("%s ended: %s", self.name, self._reason)
        self._settled.set()
        self._silenced.set()
        call_safely(self._on_end, self, self._reason)
