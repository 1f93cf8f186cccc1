"""Voxology's example flow and messages, byte for byte: what is heard, and what the application is sent."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import Client, client_of, in_order, said
from tests.lab.exact import assert_exact, noise
from tests.lab.seed_programs import SEEDS, seed
from tests.lab.sink import Received, open_sink
from tests.lab.waiting import PATIENCE_S
from tests.shapes import differences, examples

RATE = 8000
APP_ID = "421f7113-df23-4fe6-ba05-6bb943bf9ce3"
PRINTED_URL = "ws://test-u.rl"
CONSTANT = ("type", "encoding", "sample_rate", "service", "app_id")
SAID = ("This is a call flow to test the media streaming action.", "The stream has ended")


def shown(kind: str, name: str = "caller") -> dict[str, Any]:
    """Return the page's example of a message; of a track's, the one with its name."""
    found = [each for each in examples(SEEDS / "voxology-messages.json") if each["type"] == kind]
    return next((each for each in found if each.get("name") == name), found[0])


def assert_like_the_page(received: Received) -> None:
    """Require the shape of the page's example in every message."""
    kinds = [message["type"] for message in received.messages]
    assert kinds[:2] == ["init_stream", "start_track"]
    assert kinds[-2:] == ["stop_track", "end_stream"]
    for message in received.messages:
        # SAY's text is 4 s and the pause 10 s; the page's stream lasted 5 s.
        found = differences(shown(message["type"]), message, same=CONSTANT[:-1], free={"stream_data", "subaccount_id"})
        assert found == [], message
    live = json.loads((SEEDS / "voxology-live-track.json").read_text())
    for message in received.of(type="live_track"):
        assert differences(live, message) == []
    init, end = received.messages[0], received.messages[-1]
    assert [track["name"] for track in init["tracks"]] == ["caller", "transfer"]
    assert init["stream_data"] == {"test_key": "test_value"}
    assert end["stream_data"] == {"your_key": "your_value"}
    (stop,) = received.of(type="stop_track")
    (track,) = end["tracks"]
    assert track == {key: stop[key] for key in track}
    began, ended = (datetime.fromisoformat(track[key]) for key in ("start_time", "end_time"))
    assert track["duration"] == round((ended - began).total_seconds() * 1000)


async def judged(lab: Lab, client: Client, call_id: str, received: Received, spoken: Any, heard: Any) -> None:
    """Require that the flow ran as printed and the application received what the phone sent, sample for sample."""
    await client.until("call_hangup", call_id, timeout_s=PATIENCE_S)
    await client.until("flow_ended", call_id)
    assert client.failures() == []
    assert client.actions(call_id) == ["STREAM", "SAY", "PAUSE", "STREAM", "SAY", "HANGUP"]
    await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
    assert received.close_code == 1000
    assert_like_the_page(received)
    first, second = await said(lab, *SAID)
    begins = in_order(heard, first, second)
    assert 9 < begins[1] - begins[0] - len(first) / RATE < 13  # a busy machine loses or inserts frames
    track = received.voxology("caller")
    assert_exact(spoken, track, 10 + len(first) / RATE)


async def test_the_example_flow_runs_on_a_call_that_is_placed(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    alice.play_next(noise(60, RATE))
    async with open_sink() as sink, pushing(lab) as target, client_of(target) as client:
        flow = json.loads(seed("voxology-flow.json", {PRINTED_URL: sink.url}))
        (call_id,) = await client.place({"destinations": [{"type": "extension", "target": "1001"}], **flow})
        (received,) = await sink.connected(1)
        heard = await alice.heard()
        await judged(lab, client, call_id, received, alice.sent(), heard)


async def test_the_example_flow_runs_on_a_call_that_comes_in(lab: Lab, phones: Phones, tmp_path: Path) -> None:
    """From a file, as it is printed but for the URL."""
    (alice,) = await phones("1001")
    file = tmp_path / "flow.json"
    async with open_sink() as sink:
        file.write_text(seed("voxology-flow.json", {PRINTED_URL: sink.url}))
        flow = {"id": "page", "match": ["750"], "file": str(file)}
        async with pushing(lab, flows=[flow]) as target, client_of(target) as client:
            await alice.call("750", play=noise(60, RATE))
            await alice.answered()
            call_id = (await target.call_from("1001"))["id"]
            (received,) = await sink.connected(1)
            heard = await alice.heard()
            await judged(lab, client, call_id, received, alice.sent(), heard)


@pytest.mark.quick
async def test_the_first_sentence_leaves_the_caller_s_track_as_it_is(lab: Lab, phones: Phones) -> None:
    """Speech joins the party's bridge while the track runs: no sample differs before it, at the join and after it."""
    (alice,) = await phones("1001")
    alice.play_next(noise(60, RATE))
    async with open_sink() as sink, pushing(lab) as target, client_of(target) as client:
        stream = {"type": "STREAM", "params": {"url": sink.url, "action": "start", "tracks": ["caller"]}}
        pause, say = {"type": "PAUSE", "params": {"seconds": 1}}, {"type": "SAY", "params": {"text": SAID[1]}}
        actions = [stream, pause, say, pause, {"type": "HANGUP"}]
        (call_id,) = await client.place({"destinations": [{"type": "extension", "target": "1001"}], "actions": actions})
        await client.until("call_hangup", call_id)
        (received,) = sink.connections
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
    assert_exact(alice.sent(), received.voxology("caller"), 3)
