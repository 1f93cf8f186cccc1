"""Audio that is held back until an application has shown whether it uses headers: from its connection on."""

from __future__ import annotations

import pytest

from bridge.audio.audiosocket import MessageKind, encode
from bridge.audio.held_audio import CONNECT_S, FIRST_MESSAGE_S
from bridge.dialects.base import Message
from bridge.dialects.voipbin import Voipbin
from bridge.media.counters import Counters
from bridge.media.pump import Pump

FRAME = b"\1\2" * 160
FRAMED = encode(MessageKind.SLIN, FRAME)
WINDOW_MS = 10_000


class FakeLink:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message, _: float) -> None:
        self.sent.append(message)


class Caller:
    """A call whose audio flows, with an application that connects at some time."""

    def __init__(self) -> None:
        self.now = 100.0
        dialect = Voipbin("audiosocket", headers=None)
        self.pump = Pump(dialect, Counters(), on_dtmf=print, window_ms=WINDOW_MS, clock=lambda: self.now)
        self.link = FakeLink()
        self.spoken = 0

    def speak(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self.pump.from_call("in", FRAME)
            self.now += 0.02
            self.spoken += 1

    def connect(self) -> None:
        self.pump.attach(self.link)  # type: ignore[arg-type]


@pytest.mark.parametrize("connecting_s", [0.1, 0.6, 1.4])
def test_an_application_that_connects_late_gets_all_audio_as_it_sends_its_own(connecting_s: float) -> None:
    caller = Caller()
    caller.speak(connecting_s)
    caller.connect()
    caller.speak(FIRST_MESSAGE_S - 0.1)
    caller.pump.from_application(FRAME)
    caller.speak(0.2)
    assert caller.link.sent == [FRAME] * caller.spoken


def test_a_late_application_that_says_nothing_gets_headers() -> None:
    caller = Caller()
    caller.speak(1)
    caller.connect()
    caller.speak(FIRST_MESSAGE_S - 0.1)
    assert caller.link.sent == []
    caller.speak(0.2)
    assert caller.link.sent == [FRAMED] * caller.spoken


def test_no_more_is_held_back_for_an_application_that_cannot_be_reached() -> None:
    caller = Caller()
    caller.speak(CONNECT_S + 0.1)
    caller.connect()
    assert caller.link.sent == [FRAMED] * caller.spoken
