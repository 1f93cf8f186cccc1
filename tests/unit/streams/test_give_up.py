"""A stream whose application is gone ends in time; its caller is not left in silence."""

from __future__ import annotations

from bridge.dialects.twilio import Twilio
from tests.fakes.log_output import log_output
from tests.fakes.virtual_time import until
from tests.fakes.wire import Wire
from tests.unit.streams.one_stream import OneStream


async def test_a_stream_whose_application_cannot_be_reached_ends() -> None:
    with log_output() as output:
        one = OneStream(Twilio(connect=True), "inbound", reachable=False, give_up_s=0.5)
        await until(lambda: one.ended)
    assert one.ended[0].startswith("no connection for ")
    assert one.ended[0].endswith(": not there")
    assert one.stream.close_code == 1011
    assert output.getvalue().count(" stream ends, no stable connection") == 1


async def test_a_stream_whose_application_goes_away_for_good_ends() -> None:
    one = OneStream(Twilio(connect=True), "inbound", give_up_s=0.5)
    await until(lambda: one.stream.link is not None)
    one.reachable = False
    one.wire.abort(1001, "going away")
    await until(lambda: one.ended)
    assert one.ended[0].endswith(": not there")


async def test_a_stream_whose_application_always_closes_ends() -> None:
    one = OneStream(Twilio(connect=True), "inbound", give_up_s=0.5)

    def closed_again() -> bool:
        if one.stream.link is one.wire:
            wire, one.wire = one.wire, Wire()
            wire.abort(1001, "going away")
        return bool(one.ended)

    await until(closed_again)
    assert one.ended[0].endswith(": the connection broke (1001 going away)")
    assert one.stream.connects > 3
