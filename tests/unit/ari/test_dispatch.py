"""Which listeners receive which events, and how waiting for an event ends."""

from __future__ import annotations

import logging

import pytest

from bridge.ari.dispatch import Dispatcher
from bridge.ari.model import Channel, Event, decode_event
from bridge.errors import AriError


def event(kind: str, channel_id: str = "c", **more: str) -> Event:
    extra = "".join(f',"{key}":"{value}"' for key, value in more.items())
    return decode_event(f'{{"type":"{kind}","channel":{{"id":"{channel_id}"}}{extra}}}')


async def test_an_event_that_came_during_the_act_is_not_missed() -> None:
    dispatcher = Dispatcher()
    with dispatcher.expect("StasisStart", "c") as started:
        dispatcher.dispatch(event("StasisStart"))
        assert (await started.wait(0)).type == "StasisStart"


async def test_other_events_and_other_channels_do_not_count() -> None:
    dispatcher = Dispatcher()
    with dispatcher.expect("StasisStart", "c") as started:
        dispatcher.dispatch(event("ChannelStateChange"))
        dispatcher.dispatch(event("StasisStart", "d"))
        dispatcher.dispatch(event("ChannelDestroyed", "d"))
        with pytest.raises(AriError, match="did not arrive within 0 s") as caught:
            await started.wait(0)
    assert caught.value.status == 0


@pytest.mark.parametrize("ending", ["ChannelDestroyed", "StasisEnd"])
async def test_waiting_ends_when_the_channel_does(ending: str) -> None:
    dispatcher = Dispatcher()
    with dispatcher.expect("StasisStart", "c") as started:
        dispatcher.dispatch(event(ending, cause_txt="Normal Clearing"))
        with pytest.raises(AriError, match="first") as caught:
            await started.wait(60)
    assert caught.value.status == 404


async def test_the_end_may_be_what_is_waited_for() -> None:
    dispatcher = Dispatcher()
    with dispatcher.expect("ChannelDestroyed", "c") as gone, dispatcher.expect("StasisEnd", "c") as left:
        dispatcher.dispatch(event("StasisEnd"))
        dispatcher.dispatch(event("ChannelDestroyed"))
        assert (await left.wait(0)).type == "StasisEnd"
        assert (await gone.wait(0)).type == "ChannelDestroyed"


async def test_a_channel_that_goes_on_in_the_dialplan_can_be_followed() -> None:
    dispatcher = Dispatcher()
    with dispatcher.expect("ChannelDialplan", "c") as moved:
        dispatcher.dispatch(event("StasisEnd"))
        dispatcher.dispatch(event("ChannelDialplan", dialplan_app="AudioSocket"))
        assert (await moved.wait(0)).type == "ChannelDialplan"


async def test_a_lost_connection_ends_all_waiting() -> None:
    dispatcher = Dispatcher()
    with dispatcher.expect("StasisStart", "c") as first, dispatcher.expect("StasisStart", "d") as second:
        dispatcher.lose("the events connection was lost")
        for expectation in (first, second):
            with pytest.raises(AriError, match="lost"):
                await expectation.wait(60)


async def test_leaving_stops_watching() -> None:
    dispatcher = Dispatcher()
    with dispatcher.expect("StasisStart", "c"), dispatcher.expect("StasisStart", "c"):
        assert len(dispatcher._watched["c"]) == 2
    assert not dispatcher._watched


async def test_an_expectation_that_failed_unasked_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = Dispatcher()
    with caplog.at_level(logging.DEBUG), dispatcher.expect("StasisStart", "c"):
        dispatcher.dispatch(event("ChannelDestroyed"))
    assert not caplog.records


def test_callbacks_by_type_and_for_all_in_order() -> None:
    dispatcher = Dispatcher()
    told: list[str] = []
    dispatcher.on_event("*", lambda e: told.append(f"all {e.type}"))
    dispatcher.on_event("StasisStart", lambda e: told.append(f"one {e.type}"))
    dispatcher.dispatch(event("StasisStart"))
    dispatcher.dispatch(event("StasisEnd"))
    assert told == ["one StasisStart", "all StasisStart", "all StasisEnd"]


def test_a_callback_that_raises_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = Dispatcher()
    told: list[Event] = []

    def fail(_: Event) -> None:
        raise RuntimeError("broken")

    dispatcher.on_event("StasisStart", fail)
    dispatcher.on_event("StasisStart", told.append)
    dispatcher.dispatch(event("StasisStart"))
    assert len(told) == 1
    assert "broken" in caplog.text


def test_unsubscribing_is_for_one_subscription_and_may_be_repeated() -> None:
    dispatcher = Dispatcher()
    told: list[Event] = []
    first = dispatcher.on_event("StasisStart", told.append)
    dispatcher.on_event("StasisStart", told.append)
    first()
    first()
    dispatcher.dispatch(event("StasisStart"))
    assert len(told) == 1


def test_channel_events_give_the_channel() -> None:
    dispatcher = Dispatcher()
    told: list[Channel] = []
    dispatcher.on_channel_event("Dial", lambda channel, _: told.append(channel))
    dispatcher.on_channel_event("ChannelUserevent", lambda channel, _: told.append(channel))
    dispatcher.dispatch(decode_event(b'{"type":"Dial","peer":{"id":"b"}}'))
    dispatcher.dispatch(decode_event(b'{"type":"ChannelUserevent","eventname":"x"}'))
    assert [channel.id for channel in told] == ["b"]
