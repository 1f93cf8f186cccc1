"""A PBX, our ARI client, and what controls calls on it: the real parts, on the fake PBX."""

from __future__ import annotations

from bridge.calls.ids import OwnIds
from bridge.calls.records import Records
from bridge.config.recording import RecordingConfig
from bridge.control.leg import Leg
from bridge.control.legs import Legs
from bridge.control.recording import Recordings
from bridge.control.recording_archive import Archive
from bridge.control.stasis import StasisCalls
from bridge.events.hub import Event, Events
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.pbx import FakePbx
from tests.fakes.virtual_time import settle, wall_now

CONTEXT = "ways-in"


class House:
    """Legs and held calls of one bridge process.

    Args:
        claims: whether calls that enter our application are for flows.
    """

    def __init__(self, *, claims: bool = True) -> None:
        self.pbx = FakePbx()
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
