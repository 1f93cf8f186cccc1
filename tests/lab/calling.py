"""The calls layer on a lab, without the rest of a bridge: what originates calls, controls them, speaks and records."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection

from bridge.ari.client import AriClient
from bridge.calls.addresses import Address
from bridge.calls.call_record import CallRecord
from bridge.calls.ids import OwnIds
from bridge.calls.records import Records
from bridge.calls.tracker import CallTracker
from bridge.config import PbxConfig
from bridge.config.calling import CallingConfig
from bridge.config.recording import RecordingConfig
from bridge.config.values import host_and_port
from bridge.control.call_control import CallControl
from bridge.control.dial_policy import DialPolicy
from bridge.control.legs import Leg, Legs
from bridge.control.originate import Originator, OutboundCall
from bridge.control.playback import Players
from bridge.control.recording import Recordings
from bridge.control.recording_archive import Archive
from bridge.control.stasis import StasisCalls
from bridge.control.voice_rate import VoiceRates
from bridge.events.hub import Event, Events
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.media.listener import Listener
from bridge.patterns import Patterns
from bridge.taps.sweep import sweep
from bridge.taps.taps import Taps
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone, Samples
from tests.lab.waiting import PATIENCE_S

CALLING = CallingConfig(
    tel_endpoint="PJSIP/{number}@trunk-a",
    sip_endpoint="PJSIP/sip-out/{uri}",
    sip_hosts=Patterns(("127.0.0.1", "asterisk")),
    caller_id="4711",
    context="media-tap",
)


class Calling:
    """The parts, wired."""

    def __init__(self, lab: Lab, config: CallingConfig = CALLING) -> None:
        self.lab = lab
        self.seen: list[Event] = []
        self.ids = OwnIds(lab.ari_app)
        counters = Counters()
        self.listener = Listener(counters)
        self.client = AriClient(lab.ari_url, lab.ari_user, lab.ari_password, lab.ari_app)
        self.tracker = CallTracker(self.client)
        self.events = Events()
        self.events.subscribe(self.seen.append)
        self.records = Records(self.events, time.time)
        self.tracker.subscribe(self.records.on_change)
        self.client.on_event("*", self.records.on_event)
        self.legs = Legs(self.client, self.ids, self.records, context=config.context)
        self.stasis = StasisCalls(self.client, self.ids, self.legs)
        self.taps = Taps(
            self.client, self.listener, self.ids, lambda: host_and_port(lab.audiosocket_host, self.listener.port)
        )
        self.players = Players(self.taps, counters, VoiceRates(self.client))
        archive = Archive(self.client, self.ids, RecordingConfig(), app=self.client.app)
        self.recordings = Recordings(self.client, self.ids, self.records, self.events, archive)
        self.originator = Originator(
            *(self.client, self.ids, self.legs, self.records, config, DialPolicy(config, PbxConfig(), time.monotonic)),
            admission=CallAdmission(1000),
        )
        self.call_control = CallControl(
            client=self.client,
            tracker=self.tracker,
            legs=self.legs,
            records=self.records,
            originator=self.originator,
            players=self.players,
            recordings=self.recordings,
        )

    def object_ids(self) -> Collection[str]:
        """Return the ids of the objects in use on the PBX."""
        return {*self.taps.object_ids, *self.stasis.object_ids, *self.recordings.object_ids}

    async def start(self) -> None:
        """Start as a bridge does."""
        await self.listener.start(self.lab.audiosocket_bind, 0)
        await self.client.start(wait=True)
        await self.tracker.resync()
        await sweep(self.client, self.ids, self.object_ids)
        await self.stasis.adopt()

    async def stop(self) -> None:
        """Stop as a bridge does."""
        await self.call_control.stop()
        await self.originator.stop()
        await self.recordings.close()
        await self.legs.stop()
        await self.stasis.stop()
        await self.client.stop()
        await self.tracker.close()
        await self.listener.stop()

    async def ring(self, extension: str, **options: object) -> OutboundCall:
        """Originate a call to a phone of the lab."""
        return await self.originator.originate(Address("extension", extension), **options)  # type: ignore[arg-type]

    async def call(self, extension: str) -> Leg:
        """Originate a call to a phone that answers by itself."""
        async with asyncio.timeout(PATIENCE_S):
            return await (await self.ring(extension)).answered()

    def record(self, call_id: str) -> CallRecord:
        """Return a call's record, which must exist."""
        record = self.records.get(call_id)
        assert record is not None
        return record

    def told(self, call_id: str) -> list[str]:
        """Return the statuses in a call's events, in order, each as often as it changed."""
        told = [event.data["status"] for event in self.seen if event.data.get("id") == call_id]
        return [status for before, status in zip(["", *told], told, strict=False) if status != before]

    async def nothing_left(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until no object of the bridge is left on the PBX and in the process."""
        deadline = time.monotonic() + timeout_s
        while True:
            channels = [channel.id for channel in await self.client.channels.list()]
            bridges = [bridge.id for bridge in await self.client.bridges.list()]
            left = [each for each in (*channels, *bridges) if self.ids.ours(each)]
            left += [*self.object_ids(), *(f"leg {leg}" for leg in self.legs._legs)]
            left += ["tap"] * len(self.taps) + ["ticked leg"] * len(self.listener.wheel)
            if not left:
                return
            assert time.monotonic() < deadline, f"left behind: {left}"
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def calling_on(lab: Lab, config: CallingConfig = CALLING) -> AsyncIterator[Calling]:
    """Start the parts; nothing may be left at the end."""
    calling = Calling(lab, config)
    try:
        await calling.start()
        yield calling
        await calling.nothing_left()
    finally:
        await calling.stop()


# What is heard


def pcm(hz: float, seconds: float, rate: int = 16000) -> tuple[bytes, int]:
    """Return a tone as a player plays it, and its rate."""
    return judge.tone(hz, seconds, rate).astype("<i2").tobytes(), rate


async def end_of(leg: Leg, phone: Phone) -> Samples:
    """Hangs a leg up; returns what its phone heard in the whole call."""
    await leg.hang_up()
    await phone.ended()
    return phone.recording()
