"""Which stream an action means, and when streams of a flow end; without a PBX and without applications."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from bridge.access import Principal
from bridge.calls.call import Call, Party
from bridge.config import PbxConfig
from bridge.control.legs import Leg, LegEnded
from bridge.dialects.base import CallInfo, Setting
from bridge.errors import Overloaded
from bridge.media.call_admission import CallAdmission
from bridge.streams.flow_facts import Numbers
from bridge.streams.flow_streams import BACK_S, MAX_EXTERNAL_MEDIA, FlowStreams
from bridge.streams.subscription import Target
from bridge.streams.wanted_tracks import WantedTrack
from tests.fakes.leg import StandInLeg
from tests.fakes.virtual_time import pass_time
from tests.flow_requests import external_media, stream_start, stream_stop

URL = "ws://app.example/a"
TOKEN = Principal("crm", "192.0.2.7")


class Stream:
    """Records what its owner does with it."""

    def __init__(self, call: CallInfo, tracks: Iterable[str], target: Target, two_way: bool, on_end: Any) -> None:
        self.call = call
        self.asked = list(tracks)
        self.target = target
        self.dialect = target.new_dialect(Setting(target.layout, two_way))
        self.places: list[WantedTrack] = []
        self.arranged = 0
        self.ended = False
        self.reason = ""
        self._on_end = on_end

    @property
    def tracks(self) -> list[str]:
        return [track.info.name for track in self.places if track.captures]

    def set_tracks(self, wanted: Iterable[WantedTrack]) -> None:
        self.places = list(wanted)
        self.arranged += 1

    def ask(self, tracks: Iterable[str]) -> None:
        self.asked += tracks

    def end(self, reason: str) -> None:
        self.ended, self.reason = True, self.reason or reason

    async def wait(self) -> None:
        await asyncio.sleep(0)
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end(self, self.reason)

    async def settled(self, _: float) -> None:
        await asyncio.sleep(0)


class World:
    """Flow streams, a leg, and the streams that were opened."""

    def __init__(self, numbers: Callable[[str], Numbers | None] = lambda _: None) -> None:
        self.opened: list[Stream] = []
        self.calls: dict[str, tuple[Call, Party]] = {}
        self.admission = CallAdmission(100)
        self.streams = FlowStreams(
            calls=self,
            naming=PbxConfig(),
            streams=cast(Any, self),
            new_host=cast(Any, None),
            admission=self.admission,
            numbers=numbers,
        )
        self.leg = self.new_leg("p", "1001")

    def person_behind(self, channel_id: str, /) -> tuple[Call, Party] | None:
        return self.find(channel_id)

    def find(self, any_id: str, /) -> tuple[Call, Party] | None:
        return self.calls.get(any_id)

    def connected(self, _: object) -> None:
        """Do nothing: no external media is connected here."""

    def dial(
        self,
        _: str,
        call: CallInfo,
        tracks: Iterable[str],
        target: Target,
        on_end: Any,
        *,
        principal: Principal,
        two_way: bool = False,
        admitted: bool = False,
    ) -> Stream:
        assert principal is TOKEN
        assert admitted, "the call is up"
        self.opened.append(Stream(call, tracks, target, two_way, on_end))
        return self.opened[-1]

    def new_leg(self, channel_id: str, endpoint: str) -> Leg:
        party = Party(channel_id, len(self.calls), name=f"PJSIP/{endpoint}-1", endpoint=endpoint, state="Up")
        party.first_exten = "750"
        call = Call(f"call-{channel_id}", "", answered=True)
        call.add(party)
        self.calls[channel_id] = (call, party)
        return cast(Leg, StandInLeg(channel_id, party.name))

    async def start(self, **parameters: Any) -> Any:
        return await self.streams.stream_start(self.leg, stream_start(**{"url": URL, **parameters}), TOKEN)

    async def stop(self, **parameters: Any) -> None:
        await self.streams.stream_stop(self.leg, stream_stop(**parameters))


async def test_the_same_url_is_the_same_stream_and_another_dialect_is_not() -> None:
    world = World()
    first = await world.start(tracks=["caller"])
    assert await world.start(tracks=["far", "caller"], stream_data={"b": 2}) is first
    assert first.asked == ["caller", "far", "caller"]
    assert first.tracks == ["caller", "far"]
    assert first.dialect.stream_data == {"b": 2}
    assert await world.start(dialect="yeastar") is not first
    assert await world.start(url=URL + "2") is not first
    await world.streams.stop(world.leg)
    assert await world.start() is not first
    await world.streams.stop(world.leg)


async def test_other_tracks_of_a_twilio_stream_are_another_stream() -> None:
    world = World()
    first = await world.start(dialect="twilio")
    assert await world.start(dialect="twilio", tracks="inbound_track") is first
    second = await world.start(dialect="twilio", tracks="outbound_track")
    assert (first.tracks, second.tracks) == (["inbound"], ["outbound"])
    await world.stop(url=URL, tracks=["inbound_track"])
    assert (first.ended, second.ended) == (True, False)
    await world.stop(url=URL)
    assert second.ended


async def test_stop_by_url_by_name_and_of_all() -> None:
    world = World()
    first = await world.start(stream_name="one")
    second = await world.start(url=URL + "2", stream_name="two", tracks=["caller", "far"])
    await world.streams.external_media_start(world.leg, external_media(url=URL), TOKEN)
    media = world.opened[-1]
    await world.stop(stream_name="three")
    await world.stop(url=URL + "3")
    assert not any(stream.ended for stream in world.opened)
    await world.stop(stream_name="one")
    assert first.ended
    await world.stop(url=URL + "2", tracks=["caller"], stream_data={"last": True})
    assert not second.ended
    assert second.tracks == ["far"]
    assert second.dialect.stream_data == {"last": True}
    await world.stop()
    assert second.ended
    assert second.reason == "the flow stopped it"
    assert not media.ended
    await world.streams.external_media_stop(world.leg)
    assert media.ended
    assert world.streams.of(world.leg) == []


async def test_transfer_is_there_while_the_other_leg_is() -> None:
    world = World()
    other = world.new_leg("o", "1002")
    stream = await world.start(tracks=["caller", "transfer"])
    assert stream.asked == ["caller", "transfer"]
    assert stream.tracks == ["caller"]
    world.streams.transfer_joined(world.leg, other)
    assert stream.tracks == ["caller", "transfer"]
    assert [track.info.far_number for track in stream.places] == ["1001", "1002"]
    world.streams.transfer_left(world.leg)
    assert stream.tracks == ["caller"]
    world.streams.transfer_joined(world.leg, other)
    other.gone.set()
    await pass_time(0.01)
    assert stream.tracks == ["caller"]
    late = world.new_leg("q", "1003")
    world.streams.transfer_joined(world.leg, late)
    assert (await world.start(url=URL + "2", tracks=["transfer"])).tracks == ["transfer"]
    await world.streams.stop(world.leg)


async def test_all_end_when_the_party_is_gone() -> None:
    world = World()
    before = asyncio.all_tasks()
    await world.start()
    world.streams.transfer_joined(world.leg, world.new_leg("o", "1002"))
    await world.streams.external_media_start(world.leg, external_media(url=URL), TOKEN)
    world.leg.gone.set()
    await pass_time(0.05)
    assert [stream.reason for stream in world.opened] == ["the call ended"] * 2
    assert asyncio.all_tasks() == before
    with pytest.raises(LegEnded):
        await world.start()


async def test_a_party_in_no_bridge_is_waited_for_and_then_reached_by_itself() -> None:
    world = World()
    await world.streams.external_media_start(world.leg, external_media(url=URL), TOKEN)
    (stream,) = world.opened
    world.leg.bridge_id = None
    world.streams.moved(world.leg.id)
    world.leg.bridge_id = "c"
    world.streams.moved(world.leg.id)
    assert [getattr(track.tap_point, "bridge_id", None) for track in stream.places] == ["c"]
    world.leg.bridge_id = None
    world.streams.moved(world.leg.id)
    assert len(stream.places) == 1
    await pass_time(BACK_S + 0.1)
    assert [getattr(track.tap_point, "whisper", None) for track in stream.places] == ["out", "in"]
    world.streams.moved("somebody else")
    await world.streams.stop(world.leg)


async def test_limits() -> None:
    world = World()
    for _ in range(MAX_EXTERNAL_MEDIA):
        await world.streams.external_media_start(world.leg, external_media(url=URL), TOKEN)
    with pytest.raises(Overloaded, match="external media"):
        await world.streams.external_media_start(world.leg, external_media(url=URL), TOKEN)
    await world.streams.external_media_start(world.new_leg("o", "1002"), external_media(url=URL), TOKEN)
    await world.streams.external_media_stop(world.leg)
    await world.streams.external_media_start(world.leg, external_media(url=URL), TOKEN)
    world.admission.open = 100
    with pytest.raises(Overloaded, match="max_streams"):
        await world.start()
    await world.streams.close()
    assert all(stream.ended for stream in world.opened)


async def test_numbers_of_a_call_that_we_have_placed() -> None:
    world = World(lambda channel_id: Numbers("5550000", "5551234") if channel_id == "p" else None)
    stream = await world.start()
    assert (stream.call.direction, stream.call.caller, stream.call.callee) == ("outbound", "5550000", "5551234")
    (track,) = stream.places
    assert (track.info.near_number, track.info.far_number) == ("5550000", "5551234")
    await world.streams.stop(world.leg)
