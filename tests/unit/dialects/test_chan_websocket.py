"""The dialect ``chan_websocket`` with a queue that really plays: its level, and when it has run dry."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.dialects.base import CallInfo, Message
from bridge.dialects.chan_websocket import MAX_FRAMES, XOFF_FRAMES, XON_FRAMES, ChanWebsocket
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump

FMT = slin(16000)
FRAME = b"\1\0" * FMT.frame_samples


class Wire:
    """Discards what is played."""

    def write(self, _: bytes) -> None: ...

    def hang_up(self) -> None: ...

    def hand_over(self, leg: MediaLeg) -> None:
        leg.attach(self)


class Application:
    """An application whose audio is played by a leg, tick by tick."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.pump = Pump(ChanWebsocket(connect=True), Counters(), on_dtmf=print)
        self.speak()
        self.pump.attach(self)  # type: ignore[arg-type]
        self.pump.opened(CallInfo("7.1"), ["caller"])
        self.events.clear()

    def speak(self) -> None:
        self.leg = MediaLeg(FMT, Playout(FMT, 600_000), Counters())
        self.leg.attach(Wire())
        self.pump.play_on(self.leg)

    def send(self, message: Message, *_: object) -> None:
        """Receive a message of the dialect."""
        if isinstance(message, str):
            self.events.append(json.loads(message))

    def command(self, name: str, **values: str) -> None:
        self.pump.from_application(json.dumps({"command": name, **values}))

    def play(self, frames: int) -> None:
        for _ in range(frames):
            self.leg.tick(1)

    @property
    def names(self) -> list[str]:
        """The events so far, which are discarded."""
        names = [event["event"] for event in self.events]
        self.events.clear()
        return names

    @property
    def queue_length(self) -> int:
        self.command("GET_STATUS")
        length: int = self.events.pop()["queue_length"]
        return length


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.mark.parametrize("at_once", [1, 7, 95])
def test_xoff_and_xon_come_at_asterisks_levels(application: Application, at_once: int) -> None:
    sent = 0
    while not application.events:
        application.pump.from_application(FRAME * at_once)
        sent += at_once
    assert XOFF_FRAMES <= sent < XOFF_FRAMES + at_once
    assert application.names == ["MEDIA_XOFF"]
    while not application.events:
        application.play(1)
    assert XON_FRAMES - 100 <= application.queue_length < XON_FRAMES
    assert application.names == ["MEDIA_XON"]


def test_a_full_queue_takes_no_message_and_reports_it(application: Application) -> None:
    application.pump.from_application(FRAME * (MAX_FRAMES + 10))
    assert application.queue_length == MAX_FRAMES + 10
    application.pump.from_application(FRAME)
    assert application.queue_length == MAX_FRAMES + 10
    assert application.pump.dialect.discarded == 1


def test_a_flush_empties_the_queue_and_reports_no_mark(application: Application) -> None:
    application.pump.from_application(FRAME * 950)
    application.command("MARK_MEDIA", correlation_id="m")
    application.command("FLUSH_MEDIA")
    assert application.names == ["MEDIA_XOFF", "MEDIA_XON"]
    assert application.queue_length == 0


def test_the_queue_has_run_dry_when_later_audio_was_played_too(application: Application) -> None:
    application.pump.from_application(FRAME * 2)
    application.command("REPORT_QUEUE_DRAINED")
    application.pump.from_application(FRAME * 2)
    application.play(3)
    assert application.names == []
    application.play(1)
    assert application.names == ["QUEUE_DRAINED"]
    application.play(2)
    assert application.names == []
    application.command("REPORT_QUEUE_DRAINED")
    application.play(1)
    assert application.names == ["QUEUE_DRAINED"]


def test_a_paused_queue_keeps_its_length_and_marks(application: Application) -> None:
    application.pump.from_application(FRAME * 3)
    application.command("MARK_MEDIA", correlation_id="m")
    application.command("PAUSE_MEDIA")
    application.play(5)
    assert application.queue_length == 3
    application.command("CONTINUE_MEDIA")
    application.play(3)
    assert application.names == ["MEDIA_MARK_PROCESSED"]


def test_an_application_may_continue_when_its_party_has_moved_with_a_full_queue(application: Application) -> None:
    application.pump.from_application(FRAME * 950)
    assert application.names == ["MEDIA_XOFF"]
    application.pump.remove_leg(application.leg)
    application.speak()
    application.pump.from_call("caller", b"")
    assert application.names == ["MEDIA_XON"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "opus"}, "encoding must be one of slin, ulaw, alaw, not 'opus'"),
        ({"encoding": "ulaw", "rate": 16000}, "encoding=ulaw is 8000 Hz only, not 16000; use encoding=slin"),
        ({"control_message_format": "xml"}, "control_message_format must be json or plain-text, not 'xml'"),
        ({"rate": 11025}, "rate must be one of 8000, 12000"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChanWebsocket.create(options)
