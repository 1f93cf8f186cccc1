"""A full queue, in every dialect: each message from the application is played whole or not at all, and reported."""

from __future__ import annotations

import json
import re
from itertools import groupby

import numpy as np
import pytest

from bridge import dialects
from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.dialects.base import CallInfo, Dialect, Message, Setting
from bridge.dialects.chan_websocket import MAX_FRAMES, ChanWebsocket
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump
from bridge.testing.peer import Samples, ulaw_bytes, ulaw_samples
from tests.checkout import ROOT
from tests.unit.dialects.speakers import SPEAKERS, played

RATE = 8000
LIMIT_MS = 1000

each_dialect = pytest.mark.parametrize("name", SPEAKERS)


def speech(seconds: float, seed: int = 1) -> Samples:
    """Return noise that survives mu-law."""
    drawn = np.random.default_rng(seed).uniform(100, 3000, round(seconds * RATE)).astype(np.int16)
    return ulaw_samples(ulaw_bytes(drawn)).copy()


class Call:
    """One application's stream into a call, whose queue refuses audio from `LIMIT_MS` on."""

    def __init__(self, dialect: Dialect) -> None:
        fmt = slin(dialect.rate)
        self.sent: list[Message] = []
        self.frames: list[bytes] = []
        self.counters = Counters()
        self.reports: list[float] = []
        self.pump = Pump(dialect, self.counters, on_dtmf=print, on_refused=self.reports.append)
        self.leg = MediaLeg(fmt, Playout(fmt, LIMIT_MS), self.counters)
        self.leg.attach(self)
        self.pump.play_on(self.leg)
        self.pump.attach(self)  # type: ignore[arg-type]

    def send(self, message: Message, _: float = 0.0) -> None:
        """Receive a message of the dialect."""
        self.sent.append(message)

    def write(self, message: bytes) -> None:
        """Receive a frame of the leg, with its header."""
        self.frames.append(message[3:])

    def hang_up(self) -> None: ...

    def hand_over(self, leg: MediaLeg) -> None:
        leg.attach(self)

    def says(self, *messages: Message) -> None:
        for message in messages:
            self.pump.from_application(message)

    def plays(self, seconds: float) -> None:
        self.leg.tick(round(seconds * 50))

    @property
    def heard(self) -> bytes:
        """Audio so far, without the silence around it."""
        return b"".join(frame for frame in self.frames if any(frame))


def called(name: str) -> Call:
    return Call(SPEAKERS[name].dialect(name))


def test_every_dialect_with_audio_from_the_application_is_tested() -> None:
    def is_two_way(name: str) -> bool:
        options = SPEAKERS[name].options if name in SPEAKERS else {}
        return dialects.find(name).create(options, Setting(two_way=True)).two_way

    assert set(SPEAKERS) == {name for name in dialects.known() if is_two_way(name)}


@each_dialect
def test_a_message_longer_than_the_limit_is_played_to_its_end(name: str) -> None:
    message = SPEAKERS[name].speech(speech(3))
    call = called(name)
    call.says(message)
    call.plays(4)
    assert call.heard == played(SPEAKERS[name].dialect(name).receive(message))
    assert call.reports == []


@each_dialect
def test_a_message_behind_a_full_queue_leaves_no_trace(name: str) -> None:
    first, second = (SPEAKERS[name].speech(speech(seconds, seed)) for seconds, seed in ((3, 1), (2, 2)))
    call = called(name)
    call.says(first, second)
    call.plays(6)
    assert call.heard == played(SPEAKERS[name].dialect(name).receive(first))
    assert call.reports == [pytest.approx(2000, abs=1)]  # one report, of all of it
    assert call.pump.dropped_ms == call.counters.dropped_from_application_ms == call.reports[0]
    call.says(second)
    call.plays(3)
    assert call.heard == played(SPEAKERS[name].dialect(name).receive(first)) + played(
        SPEAKERS[name].dialect(name).receive(second)
    )


@each_dialect
def test_short_messages_sent_too_fast_are_heard_in_long_passages(name: str) -> None:
    """Messages of 20 ms, four times as fast as they are played."""
    call = called(name)
    messages = [SPEAKERS[name].speech(speech(0.02, number)) for number in range(400)]
    refused: list[bool] = []
    for number, message in enumerate(messages):
        before = call.pump.dropped_ms
        call.says(message)
        refused.append(call.pump.dropped_ms > before)
        if number % 4 == 3:
            call.leg.tick(1)
    passages = [len(list(each)) for was_refused, each in groupby(refused) if not was_refused]
    assert len(passages) >= 2
    assert min(passages[:-1]) >= LIMIT_MS / 2 / 20


def cell(name: str) -> str:
    """Return how an application is notified, from the documentation."""
    page = (ROOT / "docs/reference/dialects.md").read_text()
    table = page.partition("\n## Message sizes\n")[2].partition("\n## ")[0]
    (row,) = (line for line in table.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1])
    return row.split("|")[-2]


@each_dialect
def test_the_application_is_notified_as_documented(name: str) -> None:
    message = SPEAKERS[name].speech(speech(2))
    call = called(name)
    call.says(message)
    call.sent.clear()
    call.says(message)
    words = re.findall("`(.*?)`", cell(name))
    assert bool(call.sent) == bool(words), call.sent
    assert all(word in str(call.sent) for word in words), call.sent


def test_marks_around_a_refused_message_are_reached_in_order_and_in_time() -> None:
    call = called("twilio")
    audio = SPEAKERS["twilio"].speech(speech(2))
    marks = [json.dumps({"event": "mark", "mark": {"name": name}}) for name in "ab"]
    call.says(audio, marks[0], audio, marks[1])
    call.plays(1.9)
    assert call.sent == []
    call.plays(0.5)
    assert [json.loads(each)["mark"]["name"] for each in call.sent] == ["a", "b"]


def test_a_clear_returns_all_marks_and_the_queue_accepts_audio_again() -> None:
    call = called("twilio")
    audio = SPEAKERS["twilio"].speech(speech(2))
    marks = [json.dumps({"event": "mark", "mark": {"name": name}}) for name in "ab"]
    call.says(audio, marks[0], audio, marks[1], '{"event":"clear"}', audio)
    assert [json.loads(each)["mark"]["name"] for each in call.sent] == ["a", "b"]
    assert call.pump.queued_ms == 2000
    assert call.reports == [2000]


def test_chan_websocket_resumes_at_xon_not_frame_by_frame() -> None:
    dialect = ChanWebsocket(rate=RATE, connect=True)
    call = Call(dialect)
    call.leg.playout = Playout(call.leg.fmt, 600_000)
    dialect.opened(CallInfo("7.1"), ["caller"], 0.0, 0.0)
    call.says(*[bytes(320)] * MAX_FRAMES, bytes(320))
    assert dialect.discarded == 1
    call.leg.tick(20)
    call.says(bytes(320))
    assert dialect.discarded == 2
    while "MEDIA_XON" not in str(call.sent):
        call.leg.tick(20)
    call.says(bytes(320))
    assert dialect.discarded == 2
    assert [json.loads(each)["event"] for each in call.sent] == ["MEDIA_XOFF", "MEDIA_XON"]
