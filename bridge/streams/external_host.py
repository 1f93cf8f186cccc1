"""External media between Asterisk and another server; the audio does not pass through asterisk-bridge.

    party -- its bridge -- external media -- server            both directions, all parties
    party -- snoop -- bridge -- external media -- server       one direction, or one party only

The channel to the server stays; the objects between it and the party are created again when the party moves. Every id
is chosen before the request and deleted by id at the end, however far opening got.
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
"""Time limit of a request for sensitive mode to wait until all are disconnected from their parties, in seconds."""
NOT_COUNTED = (
    *("queued_ms", "unsent_ms", "dropped_to_application_ms", "dropped_from_application_ms", "discarded_messages"),
)
HINTS = {
    "rtp": " (Asterisk needs the modules chan_rtp.so and res_rtp_multicast.so for it)",
    "audiosocket": " (Asterisk could not connect, or lacks the module chan_audiosocket.so)",
}
"""Likely causes of Asterisk's status 500, its response to every internal failure."""
ATTACH_RETRIES_S = (0.2, 0.5, 1.0, 2.0)
"""Waits after the connection to the party failed: the party may just be moving to another bridge."""


class ExternalHost:
    """One external media channel, from its creation to its end.

    Args:
        stream_id: id for logs and lists.
        origin: what started it.
        call: facts about the call.
        leg: the party.
        server: where Asterisk sends the audio.
        client: ARI.
        ids: generates ids of own objects.
        taps: opens and closes media legs.
        counters: the process's counters.
        gate: hosts that Asterisk may send audio to.
        new_playout: creates the queue of a media leg.
        on_open: called once, when it is connected with its party.
        on_end: called once, when everything is deleted, with the reason.
        is_sensitive: returns whether the server must not receive the party's audio now. The channel is disconnected
            from the party meanwhile, as the audio does not pass through asterisk-bridge.
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
        """Whether it has been connected with its party."""
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
        """Whether it is disconnected from its party, whose call is in sensitive mode."""
        self._silenced = asyncio.Event()
        self._snoop_id: str | None = None
        self._mix_id: str | None = None
        self._feed: Tap | None = None
        self._joined: str | None = None
        self._attached: tuple[str, str | None] | None = None
        self._lost = False
        self._doubtful = False
        self._reason = ""
        self._stir = asyncio.Event()
        self._settled = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"external media {stream_id}")

    @property
    def name(self) -> Fields:
        """The external media's fields in log lines."""
        return Fields(stream=self.stream_id, channel=self.leg.id, external_host=self.server.host)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all channels and bridges that were created for it."""
        return [i for i in (self.media_id, self._snoop_id, self._mix_id) if i]

    @property
    def dialect_name(self) -> str:
        """The dialect in lists and events: Asterisk sends to the server."""
        return "asterisk"

    @property
    def ended(self) -> bool:
        """Whether the media has ended, or is about to."""
        return bool(self._reason) or self._task.done()

    @property
    def asked(self) -> Sequence[str]:
        """The requested direction."""
        return (self.server.listen,)

    def describe(self) -> Mapping[str, object]:
        """Return its entry in lists of streams; no audio is counted, as none passes through asterisk-bridge."""
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
        """Follow the party to another bridge or to none, and update to the sensitive mode of the call."""
        self._stir.set()

    async def silenced(self, timeout_s: float = SILENCED_S) -> None:
        """Wait until a party in sensitive mode is disconnected from it; at most ``timeout_s`` seconds."""
        if self._is_sensitive() and not self._task.done():
            self._silenced.clear()
            self._stir.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._silenced.wait()

    async def settled(self, timeout_s: float) -> None:
        """Wait until it is open or has failed; at most ``timeout_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()

    async def wait(self) -> None:
        """Wait until everything is deleted."""
        await asyncio.wait([self._task])

    def end(self, reason: str, *, code: int | None = None, handover_grace_s: float | None = None) -> None:  # noqa: ARG002
        """End the media; the first reason counts. The other arguments concern WebSockets and are ignored."""
        if not self._reason:
            self._reason = reason
            # A running request completes first. Not immediately: a task that is cancelled before its first step does
            # not even report its end.
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
            log.warning("external media failed %s error=%s", self.name, f"{error}{hint}")
            self._reason = self._reason or f"failed: {error.message}"
        except (Denied, OSError) as error:
            words = getattr(error, "strerror", None) or str(error) or "name resolution timed out"
            log.warning("external media failed %s error=%s", self.name, words)
            self._reason = self._reason or f"failed: {words}"
        except Exception:
            log.exception("external media failed, an internal error %s", self.name)
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
        self._doubtful = True  # its end may have been missed while disconnected
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
        """Return the ``host:port`` for Asterisk: a checked address, which leaves Asterisk no name to resolve.

        Raises:
            Denied: the policy denies all addresses.
            OSError: the host has no address.
        """
        host, _, port = self.server.host.rpartition(":")
        name = host.removeprefix("[").removesuffix("]")
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            found = await self._gate.addresses(name, configured=self.server.configured)
        return host_and_port(found[0], int(port))

    async def _stay(self) -> None:
        waits = iter(ATTACH_RETRIES_S)
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
            route = ("" if self._joins else self.leg.id, self.leg.bridge_id if self._needs_bridge else None)
            if route != self._attached:
                try:
                    await self._displace()
                    await self._attach()
                except AriError as error:
                    wait_s = next(waits, None)
                    if wait_s is None:
                        raise
                    log.warning("external media not connected to its party, retrying %s error=%s", self.name, error)
                    await asyncio.sleep(wait_s)
                    continue
                waits = iter(ATTACH_RETRIES_S)
                self._attached = route
                log.info("external media connected to its party %s", self.name)
                if not self.live:
                    self.live = True
                    self._settled.set()
                    call_safely(self._on_open, self)
            await self._stir.wait()

    @property
    def _joins(self) -> bool:
        """Whether the channel is a member of the party's bridge."""
        return self.leg.bridge_id is not None and self.server.listen == self.server.speak == "both"

    @property
    def _needs_bridge(self) -> bool:
        """Whether the audio depends on the party's bridge."""
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

    async def _attach(self) -> None:
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
            # A whisper is mixed into the audio from the bridge to the party; a party alone in it receives none.
            fmt = slin(FEED_RATE)
            self._feed = await self._taps.open(MediaLeg(fmt, self._new_playout(fmt), self._counters), Join(bridge_id))

    async def _displace(self) -> None:
        """Undo `_attach`."""
        self._attached = None
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
            log.warning("cleanup failed, next sweep retries %s error=%s", self.name, error)
        log.info("external media ended %s reason=%s", self.name, self._reason)
        self._settled.set()
        self._silenced.set()
        call_safely(self._on_end, self, self._reason)
