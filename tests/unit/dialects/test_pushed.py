"""What holds for streams that we push, whatever happens in the call: legal order, strict counters, samples are time."""

import base64
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dialects.base import CallInfo, Dialect, Message, TrackInfo
from bridge.dialects.twilio import Twilio
from bridge.dialects.voxology import CHUNK_MS, ERROR_CODES, StreamIds, Voxology
from bridge.dialects.yeastar import FRAGMENT_BYTES, Yeastar

NAMES = ("inbound", "outbound")
WALL = 1_790_000_000.0

Act = tuple[float, str, str, int]
ACTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.001, 0.02, 0.02, 0.02, 0.06, 0.3, 1.5]),  # seconds since the last one
        st.sampled_from(["audio"] * 8 + ["start", "stop", "change", "key", "mark", "reopen"]),
        st.sampled_from(NAMES),
        st.integers(0, 1000),  # samples
    ),
    max_size=60,
)


@dataclass
class Life:
    """A stream's lifetime: what was sent on each connection, and how long each track lasted, in order of their ends."""

    connections: list[list[dict[str, Any]]] = field(default_factory=list)
    lives_ms: list[list[tuple[str, float]]] = field(default_factory=list)


def live(stream: Dialect, acts: list[Act]) -> Life:
    life = Life()
    running: dict[str, float] = {}
    now = 1000.0

    def say(messages: Iterable[Message]) -> None:
        life.connections[-1] += [json.loads(each) for each in messages]

    def end(name: str) -> None:
        life.lives_ms[-1].append((name, (now - running.pop(name)) * 1000))

    def open_() -> None:
        life.connections.append([])
        life.lives_ms.append([])
        say(stream.opened(CallInfo("1.1"), NAMES, now, WALL + now))

    open_()
    for after_s, act, name, samples in acts:
        now += after_s
        track = TrackInfo(name, f"id-{name}", f"PJSIP/{name}", "100", callflow="queue" if samples % 2 else "")
        match act:
            case "audio":
                say(stream.audio(name, b"\1\1" * samples, now))
            case "start" if name not in running:
                running[name] = now
                say(stream.track_started(track, now))
            case "stop":
                if name in running:
                    end(name)
                say(stream.track_stopped(name, now))
            case "change":
                say(stream.track_changed(track, now))
            case "key":
                say(stream.dtmf(name, "1", now))
            case "mark":
                say(stream.mark_reached("m", now))
            case "reopen" if not stream.replays:  # a new connection; what was running is announced again
                again = list(running)
                running.clear()
                open_()
                for each in again:
                    running[each] = now
                    say(stream.track_started(TrackInfo(each), now))
    for name in list(running):
        end(name)
    say(stream.closed("the call ended", now))
    for late in (stream.closed("again", now), stream.audio("inbound", bytes(4000), now + 1)):
        say(late)
    return life


@given(acts=ACTS, rate=st.sampled_from([8000, 16000]))
def test_yeastar(acts: list[Act], rate: int) -> None:
    life = live(Yeastar(rate), acts)
    (said,) = life.connections
    sent_ms: list[tuple[str, float]] = []
    bytes_of = dict.fromkeys(NAMES, 0)
    for message in said:
        name = message["channelid"].removeprefix("PJSIP/")
        size = len(base64.b64decode(message["audio"]))
        assert message["callid"] == "1.1"
        if message["status"] == "end":
            assert size == 0
            sent_ms.append((name, bytes_of[name] / rate / 2 * 1000))
            bytes_of[name] = 0
        else:
            assert message["status"] == "process"
            assert size == FRAGMENT_BYTES
            bytes_of[name] += size
    assert not any(bytes_of.values()), "audio after the end"
    assert [name for name, _ in sent_ms] == [name for name, _ in life.lives_ms[0]]
    for (_, sent), (_, lived) in zip(sent_ms, life.lives_ms[0], strict=True):
        assert -20 < sent - lived < max(FRAGMENT_BYTES / rate / 2 * 1000, 42)


@given(acts=ACTS, chunk_ms=st.sampled_from([20, 60, 160, 1000]))
def test_voxology(acts: list[Act], chunk_ms: int) -> None:
    life = live(Voxology(chunk_ms=chunk_ms, stream_id=7), acts)
    for number, (said, lives) in enumerate(zip(life.connections, life.lives_ms, strict=True)):
        assert said[0]["type"] == "init_stream"
        assert said[0]["tracks"] == [{"name": name} for name in NAMES]
        assert {each["stream_id"] for each in said} == {7 + number}
        assert [each["stream_sequence_number"] for each in said] == list(range(1, len(said) + 1))
        running: dict[str, dict[str, Any]] = {}
        ended = []
        for message in said[1:]:
            name = message.get("name", "")
            match message["type"]:
                case "start_track":
                    assert name not in running
                    assert message["track_sequence_number"] == 1
                    running[name] = {"next": 2, "bytes": 0}
                case "live_track":
                    track = running[name]
                    assert message["track_sequence_number"] == track["next"]
                    assert track["bytes"] % (chunk_ms * 8) == 0, "a short chunk that is not the last"
                    track["next"] += 1
                    size = len(base64.b64decode(message["media"]))
                    assert 0 < size <= chunk_ms * 8
                    track["bytes"] += size
                case "stop_track":
                    track = running.pop(name)
                    assert message["track_sequence_number"] == track["next"]
                    assert abs(track["bytes"] / 8 - message["duration"]) <= chunk_ms + 2
                    times = ("name", "start_time", "end_time", "duration")
                    ended.append({key: message[key] for key in times})
                case "end_stream":
                    assert message is said[-1]
                    assert not running
                    assert message["tracks"] == sorted(ended, key=lambda times: NAMES.index(times["name"]))
                    assert (message["error_code"], message["error"]) == (None, None)
                case other:
                    raise AssertionError(other)
        if number == len(life.connections) - 1:
            assert said[-1]["type"] == "end_stream"
            assert [each["name"] for each in ended] == [name for name, _ in lives]
        for each, (name, lived) in zip(ended, lives, strict=True):
            assert each["name"] == name
            assert abs(each["duration"] - lived) <= 1


@pytest.mark.slow
@given(acts=ACTS, connect=st.booleans(), per_track=st.booleans())
def test_twilio(acts: list[Act], connect: bool, per_track: bool) -> None:
    tracks = "inbound_track" if connect else "both_tracks"
    stream = Twilio(tracks, connect=connect, chunk_per_track=per_track, rng=random.Random(1))
    life = live(stream, acts)
    for number, said in enumerate(life.connections):
        connected, start, *rest = said
        assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        assert start["event"] == "start"
        assert [each["sequenceNumber"] for each in said[1:]] == [str(n) for n in range(1, len(said))]
        assert {each["streamSid"] for each in said[1:]} == {start["start"]["streamSid"]}
        media = [each["media"] for each in rest if each["event"] == "media"]
        allowed = {"media", "mark", "dtmf", "stop"} if connect else {"media", "stop"}
        assert {each["event"] for each in rest} <= allowed
        assert [each["event"] for each in rest].count("stop") == (number == len(life.connections) - 1)
        if number == len(life.connections) - 1:
            assert rest[-1]["event"] == "stop"
        assert all(len(base64.b64decode(each["payload"])) == 160 for each in media)
        assert {each["track"] for each in media} <= set(start["start"]["tracks"])
        for name in NAMES:
            own = [each for each in media if each["track"] == name]
            timestamps = [int(each["timestamp"]) for each in own]
            assert all(after - before >= 20 for before, after in pairwise(timestamps))
            if per_track:
                assert [each["chunk"] for each in own] == [str(n) for n in range(1, len(own) + 1)]
        if not per_track:
            assert [each["chunk"] for each in media] == [str(n) for n in range(1, len(media) + 1)]
        for name in start["start"]["tracks"]:
            sent = 20 * sum(each["track"] == name for each in media)
            lives = [lived for each, lived in life.lives_ms[number] if each == name]
            if number == len(life.connections) - 1:
                # A frame is whole or is not sent, and one or two may be ahead of the clock.
                assert -40 * len(lives) <= sent - sum(lives) <= 42 * len(lives)


@pytest.mark.parametrize("rate", [0, 11025, 48000, "8000", None])
def test_yeastar_has_two_rates(rate: Any) -> None:
    with pytest.raises(ValueError, match="rate must be one of 8000, 16000, not"):
        Yeastar(rate)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"chunk_ms": 0}, "chunk_ms must be a multiple of 20 from 20 to 1000, not 0"),
        ({"chunk_ms": 176}, "not 176"),
        ({"chunk_ms": 1020}, "not 1020"),
        ({"app_id": "mine"}, "app_id must be a UUID, not 'mine'"),
        ({"subaccount_id": "5"}, "subaccount_id must be an integer, not '5'"),
        ({"stream_data": "x"}, "stream_data must be a table"),
    ],
)
def test_voxologys_options_say_what_they_may_be(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Voxology(**options)


@pytest.mark.parametrize("chunk_ms", CHUNK_MS)
def test_every_length_of_voxologys_chunks(chunk_ms: int) -> None:
    stream = Voxology(chunk_ms=chunk_ms)
    stream.opened(CallInfo("1.1"), ["far"], 0.0, WALL)
    stream.track_started(TrackInfo("far"), 0.0)
    said = [json.loads(each) for n in range(50) for each in stream.audio("far", b"\1\1" * 160, 0.02 * (n + 1))]
    assert len(said) == 1000 // chunk_ms
    assert {len(base64.b64decode(each["media"])) for each in said} == {chunk_ms * 8}
    assert stream.message_ms == chunk_ms


@pytest.mark.parametrize(("error", "code"), ERROR_CODES.items())
def test_voxologys_errors(error: str, code: int) -> None:
    stream = Voxology()
    stream.opened(CallInfo("1.1"), ["far"], 0.0, WALL)
    end = json.loads(stream.closed("in words", 1.0, error)[-1])
    assert (end["error_code"], end["error"]) == (code, error)


def test_an_error_that_voxologys_list_has_not_is_internal() -> None:
    stream = Voxology()
    stream.opened(CallInfo("1.1"), ["far"], 0.0, WALL)
    end = json.loads(stream.closed("in words", 1.0, "on fire")[-1])
    assert (end["error_code"], end["error"]) == (1005, "internal")


def test_voxologys_end_lists_tracks_as_they_were_requested_whichever_stopped_first() -> None:
    stream = Voxology()
    stream.opened(CallInfo("1.1"), ["caller", "transfer"], 0.0, WALL)
    for name in ("transfer", "caller"):
        stream.track_started(TrackInfo(name), 0.0)
    stream.track_stopped("transfer", 1.0)
    end = json.loads(stream.closed("", 2.0)[-1])
    assert [(each["name"], each["duration"]) for each in end["tracks"]] == [("caller", 2000), ("transfer", 1000)]


def test_voxologys_data_may_be_replaced_while_it_runs() -> None:
    stream = Voxology(stream_data={"step": 1})
    init = json.loads(stream.opened(CallInfo("1.1"), [], 0.0, WALL)[0])
    stream.stream_data = MappingProxyType({"step": 2})  # configuration is often such
    assert (init["stream_data"], json.loads(stream.closed("", 1.0)[-1])["stream_data"]) == ({"step": 1}, {"step": 2})


@pytest.mark.parametrize(
    ("direction", "said"), [("inbound", "inbound"), ("outbound", "outbound"), ("internal", "outbound")]
)
def test_voxology_knows_two_directions(direction: str, said: str) -> None:
    init = json.loads(Voxology().opened(CallInfo("1.1", direction), [], 0.0, WALL)[0])
    assert init["direction"] == said


def test_ids_of_streams_have_nine_digits_and_never_come_twice() -> None:
    ids = StreamIds()
    made = [ids.next() for _ in range(10_000)]
    assert len(set(made)) == len(made)
    assert all(len(str(each)) == 9 for each in made)
    assert made[-1] < 2**31  # as 32-bit clients read it
    assert StreamIds().next() != StreamIds().next()  # after a restart, but for one in 900 million
    streams = [json.loads(Voxology().opened(CallInfo("1.1"), [], 0.0, WALL)[0])["stream_id"] for _ in range(3)]
    assert len(set(streams)) == 3
