"""Dialects of bare audio: their options, and clears and marks with a queue that really plays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge import dialects
from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.dialects.base import CallInfo, Message, Setting
from bridge.dialects.jambonz import Jambonz
from bridge.dialects.pcm import PcmDialect
from bridge.dialects.vonage import Vonage
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump

RATE = 16000
FMT = slin(RATE)
FRAME = b"\1\0" * FMT.frame_samples


class Link:
    """Keeps text that is sent, and the code of the Close frame."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed_with = 0

    def send(self, message: Message, _: float) -> None:
        assert isinstance(message, str)
        self.sent.append(json.loads(message))

    def close(self, code: int, _: str) -> None:
        self.closed_with = code


class Application:
    """An application whose audio is played by a leg, frame by frame."""

    def __init__(self, dialect: PcmDialect) -> None:
        self.pump = Pump(dialect, Counters(), on_dtmf=print, on_refused=print)
        self.leg = self._speak()
        self.link = Link()
        self.pump.attach(self.link)  # type: ignore[arg-type]

    def _speak(self) -> MediaLeg:
        leg = MediaLeg(FMT, Playout(FMT, 60_000), Counters())
        self.pump.play_on(leg)
        return leg

    def send(self, *messages: bytes | dict[str, Any]) -> None:
        for message in messages:
            self.pump.from_application(message if isinstance(message, bytes) else json.dumps(message))

    def play(self, frames: int) -> list[dict[str, Any]]:
        """Play some frames; return what has been sent since the last call."""
        for _ in range(frames):
            self.leg.playout.take()
            for name in self.leg.playout.reached():
                self.leg.on_mark(name)
        sent, self.link.sent = self.link.sent, []
        return sent

    def move(self) -> None:
        """Replace the leg by another with an empty queue, as when the party has moved."""
        self.pump.remove_leg(self.leg)
        self.leg = self._speak()


def notify(n: int) -> dict[str, Any]:
    return {"action": "notify", "payload": {"n": n}}


def notified(n: int) -> dict[str, Any]:
    return {"event": "websocket:notify", "payload": {"n": n}}


def mark(name: str) -> dict[str, Any]:
    return {"type": "mark", "data": {"name": name}}


def marked(name: str, event: str = "playout") -> dict[str, Any]:
    return {"type": "mark", "data": {"name": name, "event": event}}


CLEARED = {"event": "websocket:cleared"}


def test_a_notify_comes_back_when_what_was_before_it_has_been_played() -> None:
    application = Application(Vonage(RATE, connect=True))
    application.send(FRAME * 3, notify(1), FRAME, notify(2))
    assert application.play(2) == []
    assert application.play(1) == [notified(1)]
    assert application.play(1) == [notified(2)]


def test_a_clear_is_confirmed_and_a_notify_that_it_cleared_does_not_come_back() -> None:
    application = Application(Vonage(RATE, connect=True))
    application.send(FRAME * 9, notify(1), {"action": "clear"}, FRAME * 2, notify(2))
    assert application.play(1) == [CLEARED]
    assert application.play(1) == [notified(2)]
    application.send({"action": "clear"}, FRAME, notify(3), {"action": "clear"})
    assert application.play(1) == [CLEARED, CLEARED]


def test_a_party_that_moves_during_a_clear_costs_no_later_notify() -> None:
    application = Application(Vonage(RATE, connect=True))
    application.send(FRAME * 9, {"action": "clear"})
    application.move()
    application.send(FRAME, notify(1))
    assert application.play(1) == [notified(1)]


def test_marks_report_whether_they_were_played_cleared_or_forgotten() -> None:
    application = Application(Jambonz(RATE, connect=True))
    application.send(FRAME, mark("a"), FRAME * 9, mark("b"))
    assert application.play(1) == [marked("a")]
    application.send({"type": "killAudio"})
    assert application.play(1) == [marked("b", "cleared")]
    application.send(FRAME, mark("c"), {"type": "clearMarks"}, mark("d"))
    assert application.play(1) == [marked("d")]


def test_play_done_comes_when_a_file_has_been_played_or_stopped() -> None:
    application = Application(Jambonz(RATE, connect=True))
    data = {"audioContent": "AQAB" * 240, "audioContentType": "raw", "sampleRate": RATE, "id": "x"}
    application.send({"type": "playAudio", "data": data})
    assert application.play(1) == []
    assert application.play(1) == [{"type": "playDone", "data": {"id": "x"}}]
    application.send({"type": "playAudio", "data": data}, {"type": "killAudio"})
    assert application.play(1) == [{"type": "playDone", "data": {"id": "x"}}]


def test_disconnect_ends_the_stream() -> None:
    application = Application(Jambonz(RATE, connect=True))
    application.send({"type": "disconnect"})
    assert application.link.closed_with == 1000


@pytest.mark.parametrize("name", ["vonage", "jambonz"])
def test_invalid_messages_are_reported_with_what_is_expected(name: str) -> None:
    reported: list[tuple[Message, str]] = []
    for two_way in (True, False):
        dialect = dialects.find(name).create({}, Setting(two_way=two_way))
        dialect.on_discarded = lambda message, expected: reported.append((message, expected))
        assert dialect.receive("hello") == ()
        assert dialect.discarded == 1
    (_, two_way_expects), (_, one_way_expects) = reported
    assert f"s16le at {dialect.rate} Hz" in two_way_expects
    assert "one-way" in one_way_expects


@pytest.mark.parametrize("name", ["vonage", "jambonz"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 11025}, "rate must be one of 8000, 16000, 24000.*, not 11025"),
        ({"parameters": {"a": 1}}, "parameters must be strings; the value of 'a' is 1"),
        ({"two_way": True}, "options.two_way: is not an option; the dialect .* has connect, parameters, rate"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dialects.find(name).create(options)


@pytest.mark.parametrize(("name", "reserved"), [("vonage", "content-type"), ("jambonz", "callSid")])
def test_parameters_do_not_replace_what_the_dialect_sets(name: str, reserved: str) -> None:
    with pytest.raises(ValueError, match=f"parameters must not contain '{reserved}'"):
        dialects.find(name).create({"parameters": {reserved: "x"}})


def test_parameters_may_replace_the_facts_of_the_call() -> None:
    dialect = Vonage(parameters={"from_number": "withheld"})
    (first,) = dialect.opened(CallInfo("7.1", caller="1001"), ("caller",), 0.0, 0.0)
    assert json.loads(first)["from_number"] == "withheld"
