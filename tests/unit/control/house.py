"""A PBX, our ARI client, and what controls calls on it: the real parts, on the fake PBX."""

from __future__ import annotations

import time
from typing import Any

from bridge.calls.addresses import Address
from bridge.calls.call_record import CallRecord
from bridge.calls.ids import OwnIds
from bridge.calls.records import Records
from bridge.calls.tracker import CallTracker
from bridge.config import PbxConfig
from bridge.config.calling import CallingConfig
from bridge.config.recording import RecordingConfig
from bridge.control.call_control import CallControl
from bridge.control.dial_policy import DialPolicy
from bridge.control.leg import Leg
from bridge.control.legs import Legs
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
from bridge.taps.taps import Taps
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.media_pbx import MediaPbx
from tests.fakes.virtual_time import settle, wall_now

CONTEXT = "ways-in"


class House:
    """Legs and held calls of one bridge process, and what plays to them.

    Args:
        claims: whether calls that enter our application are for flows.
    """

    def __init__(self, *, claims: bool = True) -> None:
        counters = Counters()
        self.listener = Listener(counters)
        self.pbx = MediaPbx(self.listener)
        self.client = FakeAriClient(self.pbx)
        self.ids = OwnIds("bridge")
        self.published: list[Event] = []
        self.events = Events()
        self.events.subscribe(self.published.append)
        self.records = Records(self.events, wall_now)
        self.legs = Legs(self.client, self.ids, self.records, context=CONTEXT)
        self.legs.claim = lambda *_: claims
        self.claimed: list[Leg] = []
        self.legs.on_claimed = lambda leg, _: self.claimed.append(leg)
        self.stasis = StasisCalls(self.client, self.ids, self.legs)
        config = RecordingConfig()
        archive = Archive(self.client, self.ids, config, app="bridge", worker=0, workers=1, clock=wall_now)
        self.recordings = Recordings(self.client, self.ids, self.records, self.events, archive, clock=wall_now)
        self.taps = Taps(self.client, self.listener, self.ids, lambda: "127.0.0.1:9092", context=CONTEXT)
        self.players = Players(self.taps, counters, VoiceRates(self.client))
        self.client.connect()

    async def caller(self, phone: str = "1001") -> Leg:
        """Have a phone call a flow; return its leg."""
        channel_id = self.pbx.call(phone, "750")
        await settle()
        leg = self.legs.get(channel_id)
        assert leg is not None
        return leg

    def published_types(self) -> list[str]:
        """Return the types of the events for applications."""
        return [event.type for event in self.published]


class CallingHouse(House):
    """A house that also follows the calls of the PBX, originates calls and acts on them.

    Args:
        config: of the originated calls.
        claims: whether calls that enter our application are for flows.
    """

    def __init__(self, config: CallingConfig | None = None, *, claims: bool = True) -> None:
        super().__init__(claims=claims)
        config = config or CallingConfig()
        self.tracker = CallTracker(self.client, wall_now)
        self.tracker.subscribe(self.records.on_change)
        self.client.on_event("*", self.records.on_event)
        self.admission = CallAdmission(1000, late_ms=40)
        self.policy = DialPolicy(config, PbxConfig(), time.monotonic)
        self.originator = Originator(
            *(self.client, self.ids, self.legs, self.records, config, self.policy), admission=self.admission
        )
        self.control = CallControl(
            client=self.client,
            tracker=self.tracker,
            legs=self.legs,
            records=self.records,
            originator=self.originator,
            players=self.players,
            recordings=self.recordings,
        )

    async def ring(self, phone: str, **how: Any) -> OutboundCall:
        """Originate a call to a phone, which rings."""
        call = await self.originator.originate(Address("extension", phone), **how)
        self.pbx.rings(call.id)
        await settle()
        return call

    async def call(self, phone: str, **how: Any) -> Leg:
        """Originate a call to a phone that answers."""
        call = await self.ring(phone, **how)
        self.pbx.pick_up(call.id)
        return await call.answered()

    def record(self, call_id: str) -> CallRecord:
        """Return the record of a call; there must be one."""
        record = self.records.get(call_id)
        assert record is not None
        return record

    def statuses(self, call_id: str) -> list[str]:
        """Return the statuses that were published of a call, in order, each as often as it changed."""
        published = [event.data["status"] for event in self.published if event.data.get("id") == call_id]
        return [status for before, status in zip(["", *published], published, strict=False) if status != before]

    async def close(self) -> None:
        """Stop, and check that no object of the bridge is left on the PBX."""
        await self.control.stop()
        await self.originator.stop()
        await self.legs.stop()
        await self.stasis.stop()
        await settle()
        left = [each for each in (*self.pbx.channels, *self.pbx.bridges) if self.ids.ours(each)]
        assert not left, left
        await self.tracker.close()
