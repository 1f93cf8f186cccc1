"""Playback to a leg: at its own pace, in turn, through moves and broken audio connections, and not beyond its end."""

from __future__ import annotations

import asyncio

import pytest

from bridge.control.leg import LegEnded
from bridge.control.playback import SETTLE_S
from bridge.control.voice_rate import NARROW, WIDE, VoiceRates, voice_rate
from bridge.errors import AriError
from bridge.taps.taps import Join, Snoop
from tests.fakes.virtual_time import now, pass_time, settle
from tests.unit.control.house import House

RATE = NARROW
SECOND = b"\1\0" * RATE


def opened(house: House) -> int:
    """Return how many audio connections were requested from Asterisk."""
    return house.pbx.requests.count("POST /channels/externalMedia")


@pytest.fixture
async def house() -> House:
    house = House()
    await house.client.bridges.create(bridge_id="b")
    return house


async def test_it_takes_as_long_as_it_sounds_and_the_leg_is_held_in_a_bridge(house: House) -> None:
    leg = await house.caller()
    player = house.players.of(leg)
    began = now()
    await player.play(SECOND * 5, RATE)
    assert now() - began == pytest.approx(5, abs=0.1)
    assert leg.bridge_id is not None
    assert house.pbx.wire_in(leg.bridge_id).heard == SECOND * 5
    await player.close()
    await player.close()
    assert not house.taps.object_ids
    assert house.pbx.bridges[leg.bridge_id]["channels"] == [leg.id]


async def test_several_wait_for_their_turns_and_one_that_is_cancelled_is_over(house: House) -> None:
    house.pbx.come("party", "1002", state="Up")
    player = house.players.at(Snoop("party", "none", "out"))
    first, second, third = (asyncio.create_task(player.play(bytes([n, 0]) * RATE, RATE)) for n in (1, 2, 3))
    await pass_time(1.5)
    assert (first.done(), second.done()) == (True, False)
    second.cancel()
    await third
    assert len(house.pbx.heard) < 2.7 * len(SECOND)
    assert set(house.pbx.heard[::2]) == {1, 2, 3}
    assert house.pbx.heard.endswith(b"\3\0" * RATE)
    await player.close()
    assert list(house.pbx.channels) == ["party"]


async def test_stop_ends_all_that_plays_or_waits(house: House) -> None:
    player = house.players.at(Join("b"))
    playing = [asyncio.create_task(player.play(SECOND * 60, RATE)) for _ in range(3)]
    await pass_time(1)
    player.stop()
    await asyncio.gather(*playing)
    assert len(house.pbx.heard) < 1.1 * len(SECOND)
    await player.play(SECOND, RATE)  # and the next one plays
    await player.close()


async def test_a_broken_connection_is_restored_once_and_goes_on_where_it_was(house: House) -> None:
    player = house.players.at(Join("b"))
    playing = asyncio.create_task(player.play(SECOND * 3, RATE))
    await pass_time(1)
    house.pbx.break_media()
    await playing
    assert house.pbx.heard == SECOND * 3
    assert opened(house) == 2
    playing = asyncio.create_task(player.play(SECOND * 3, RATE))
    for _ in range(2):
        await pass_time(1)
        house.pbx.break_media()
    with pytest.raises(AriError, match="broke repeatedly"):
        await playing
    await player.close()
    assert not house.taps.object_ids


async def test_it_follows_a_leg_that_moves(house: House) -> None:
    leg = await house.caller()
    player = house.players.of(leg)
    playing = asyncio.create_task(player.play(SECOND * 3, RATE))
    await pass_time(1)
    await leg.move_to("b")
    await playing
    assert opened(house) == 2
    assert house.pbx.bridge_of(leg.id) == "b"
    assert len(house.pbx.wire_in("b").heard) > len(SECOND)
    assert house.pbx.heard == SECOND * 3
    await player.close()


async def test_no_audio_connection_is_made_for_a_party_that_hangs_up(house: House) -> None:
    leg = await house.caller()
    player = house.players.of(leg)
    playing = asyncio.create_task(player.play(SECOND * 3, RATE))
    await pass_time(1)
    house.pbx.leave_bridge(leg.id)  # comes before the end, as its audio's end does
    await settle()
    house.pbx.break_media()
    await pass_time(SETTLE_S / 2)
    house.pbx.hang_up(leg.id)
    with pytest.raises(LegEnded):
        await playing
    assert opened(house) == 1
    with pytest.raises(LegEnded):
        await player.play(SECOND, RATE)
    await player.close()


async def test_what_asterisk_refuses_is_told(house: House) -> None:
    house.pbx.failures["externalMedia"] = AriError(500, "POST", "/channels/externalMedia", "refused by the test")
    player = house.players.at(Join("b"))
    with pytest.raises(AriError, match="refused by the test"):
        await player.play(SECOND, RATE)
    house.pbx.failures.clear()
    await player.play(SECOND, RATE)
    await player.close()


@pytest.mark.parametrize(
    ("codecs", "rate"),
    [
        ("(ulaw)", NARROW),
        ("(alaw|g722)", NARROW),
        ("(g729)", NARROW),
        ("(slin)", NARROW),
        ("(speex)", NARROW),
        ("(silk8)", NARROW),
        ("()", NARROW),
        ("(g722)", WIDE),
        ("(opus|ulaw)", WIDE),
        ("(slin16)", WIDE),
        ("(slin48)", WIDE),
        ("(speex32)", WIDE),
    ],
)
def test_the_voice_is_as_wide_as_the_party_s_codec(codecs: str, rate: int) -> None:
    assert voice_rate(codecs) == rate


@pytest.mark.parametrize(("codec", "rate"), [("ulaw", NARROW), ("g722", WIDE)])
async def test_a_party_is_spoken_to_at_the_rate_of_its_codec_and_a_bridge_at_8_khz(
    house: House, codec: str, rate: int
) -> None:
    house.pbx.codec = codec
    leg = await house.caller()
    house.pbx.come("party", "1002", state="Up")
    players = house.players
    made = (players.of(leg), players.at(Snoop("party", "none", "out")), players.at(Join("b")))
    for player, expected in zip(made, (rate, rate, NARROW), strict=True):
        for _ in range(2):
            await player.play(b"\1\0" * expected, expected)
        assert house.pbx.heard == b"\1\0" * expected * 2
        await player.close()
        house.pbx.wires.clear()
    asked = [each for each in house.pbx.questions if each.endswith("CHANNEL(audionativeformat)")]
    assert asked == [f"GET /channels/{each}/variable CHANNEL(audionativeformat)" for each in (leg.id, "party")]


async def test_a_party_whose_codec_is_unknown_has_a_narrow_one(house: House) -> None:
    assert await VoiceRates(house.client).of("gone") == NARROW
