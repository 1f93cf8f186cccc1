"""Renews the taps of a party after its peer has changed, or when they are silent although the peer sends audio.

`bridge.taps.taps` describes why. A change of the peer is in the model of calls. Other causes (a phone that restarts its
RTP, an unreported change) are detected by audio: while a tap is silent, the audio of the only other party in the bridge
is checked, and if that is not silent, the silence is a fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import Struct

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.calls.call import Change, Party, PartyChanged, PartyJoined, PartyLeft
from bridge.calls.tracker import CallTracker
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg, Watch, is_silence
from bridge.media.shared_leg import NOTHING_MS
from bridge.taps.backend import Snoop, Tap
from bridge.taps.taps import Taps
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Interval of checks of all taps, in seconds."""
SILENT_FRAMES = 75
"""Silence of 1.5 s is suspicious."""
COMPARE_S = 1.0
"""Time for which the peer's audio is checked, in seconds."""
RATE = 8000  # Hz; of the comparing tap: the cheapest one
WAITS_S = (5.0, 15.0, 60.0, 300.0)
"""Waits after comparisons while a tap stays silent, in seconds; the last one repeats."""


class Silence(Struct):
    """One silent direction of a party.

    Args:
        compared: number of comparisons with the peer.
        due: time of the next comparison.
        renewed: number of renewals because of it.
    """

    compared: int = 0
    due: float = 0.0
    renewed: int = 0


class Renewal:
    """Follows the peers of all parties, and checks the taps, after `start`.

    Args:
        taps: the taps.
        tracker: the calls of the PBX.
        counters: the process's counters.
        clock: returns seconds on a monotonic clock.
        rejoin: removes a channel from the mixing bridge that holds it and adds it again, which renews its translators.
    """

    def __init__(
        self,
        taps: Taps,
        tracker: CallTracker,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
        rejoin: Callable[[str], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._rejoin = rejoin
        self._taps = taps
        self._model = tracker.model
        self._counters = counters
        self._clock = clock
        self._partners: dict[str, Party] = {}
        """The latest party that was alone in a bridge with a channel, by channel."""
        self._bridges: dict[str, str] = {}
        """The latest bridge of a channel, by channel."""
        self._watches: dict[Tap, Watch] = {}
        self._silences: dict[tuple[str, str], Silence] = {}
        """By channel and direction."""
        self._tasks = BackgroundTasks("renewal of taps", expected=(AriError,))
        tracker.subscribe(self._on_change)

    def start(self) -> None:
        """Begin to check."""
        self._tasks.spawn(self._look()).set_name("listen to taps")

    async def stop(self) -> None:
        """Cancel running work."""
        await self._tasks.stop()

    def partner(self, channel_id: str) -> Party | None:
        """Return the only other party in the bridge of a party; None if there is none, or more than one.

        With several, Asterisk mixes the audio itself, and generated audio has no sequence numbers.
        """
        found = self._model.member(channel_id)
        bridge = self._model.bridges.get(found[1].bridge_id or "") if found is not None else None
        members = bridge.channels if bridge is not None else ()
        others = [other[1] for other in map(self._model.member, members) if other is not None]
        others = [other for other in others if other.id != channel_id]
        return others[0] if len(others) == 1 else None

    # Events of the model

    def _on_change(self, change: Change) -> None:
        if isinstance(change, PartyLeft) and change.moved_to is None:
            self._partners.pop(change.party.id, None)
            self._bridges.pop(change.party.id, None)
        elif isinstance(change, PartyJoined) or (isinstance(change, PartyChanged) and "bridge_id" in change.fields):
            # A party whose call is queried joins the call after the bridge.
            party = change.party
            concerned = {self._bridges.pop(party.id, ""), party.bridge_id or ""}
            if party.bridge_id:
                self._bridges[party.id] = party.bridge_id
            for bridge in filter(None, map(self._model.bridges.get, concerned)):
                for channel_id in bridge.channels:
                    self._meet(channel_id)

    def _meet(self, channel_id: str) -> None:
        partner = self.partner(channel_id)
        if partner is None:
            return
        before = self._partners.get(channel_id)
        self._partners[channel_id] = partner
        # A Local channel is replaced by the party behind it, whose audio it has carried.
        if before is not None and before is not partner and not before.is_local:
            self._tasks.spawn(self._taps.follow(channel_id))
            self._renew_other_half(channel_id)

    def _renew_other_half(self, channel_id: str) -> None:
        """Renew the translators of the other half of a Local channel, through which the new partner's audio comes.

        They discard it as an audiohook's do, and nothing but another bridge makes Asterisk build others.
        """
        found = self._model.member(channel_id)
        half = self._model.other_half(found[1]) if found is not None else None
        if half is not None and self._rejoin is not None:
            self._tasks.spawn(self._rejoin(half.id))

    # Checks of audio

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for point in self._suspects():
                await self._compare(point)

    def _suspects(self) -> list[Snoop]:
        """Return the silent taps that are due for a comparison, and continue to watch all."""
        suspects: dict[tuple[str, str], Snoop] = {}
        silences, self._silences = self._silences, {}
        watches, self._watches = self._watches, {}
        for tap in self._taps.connections:
            point = tap.point
            if not isinstance(point, Snoop) or point.spy == "none" or tap.idle:
                continue
            key, watch = (point.channel_id, point.spy), watches.get(tap)
            silence = self._silences.get(key) or silences.get(key)
            if watch is not None and watch.heard:
                if silence is not None and silence.renewed:
                    self._repaired(point)
                silence = silences[key] = Silence()
            if silence is not None:
                self._silences[key] = silence
            if watch is None or not watch.active:
                if tap.leg.connected.is_set():
                    self._watches[tap] = tap.leg.watch()
                continue
            self._watches[tap] = watch
            silence = self._silences.setdefault(key, Silence())
            if watch.frames >= SILENT_FRAMES and self._clock() >= silence.due:
                suspects[key] = point
        return list(suspects.values())

    async def _compare(self, point: Snoop) -> None:
        """Check the peer of a silent party, and renew the party's taps if the peer is not silent."""
        silence = self._silences[point.channel_id, point.spy]
        silence.due = self._clock() + WAITS_S[min(silence.compared, len(WAITS_S) - 1)]
        silence.compared += 1
        partner = self.partner(point.channel_id)
        if partner is None or not await self._sounds(Snoop(partner.id, "out" if point.spy == "in" else "in", "none")):
            return
        watches = [watch for tap, watch in self._watches.items() if tap.point == point]
        if any(watch.heard for watch in watches) or self.partner(point.channel_id) is not partner:
            return
        if silence.renewed == 1:
            log.info(
                "still silent after a renewal although the peer sends audio: muted, or an audiohook of the dialplan"
                " (MixMonitor) blocks it channel=%s direction=%s peer=%s",
                point.channel_id,
                point.spy,
                partner.id,
            )
        silence.renewed += 1
        await self._taps.renew(point.channel_id)

    async def _sounds(self, point: Snoop) -> bool:
        """Return whether a tap point receives anything but silence."""
        fmt, sound = slin(RATE), asyncio.Event()
        leg = MediaLeg(fmt, Playout(fmt, NOTHING_MS), self._counters)
        leg.on_audio = lambda pcm: None if is_silence(pcm) else sound.set()
        try:
            tap = await self._taps.open(leg, point)
        except AriError:
            return False  # the party has just left, or Asterisk is unavailable
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMPARE_S):
                    await sound.wait()
        finally:
            await self._taps.close(tap)
        return sound.is_set()

    def _repaired(self, point: Snoop) -> None:
        self._counters.silences_repaired += 1
        log.warning(
            "taps were silent although the peer sent audio, reopened and repaired channel=%s direction=%s",
            point.channel_id,
            point.spy,
        )
