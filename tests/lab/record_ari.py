"""Records ARI's events of real calls into tests/wire/ari, where the call model's tests replay them.

    .venv/bin/python -m tests.lab.record_ari [SCENARIO...]

Each line is one message as Asterisk sent it, or ``{"linkedid": [channel, linkedid]}``: what Asterisk answered, at this
point, to the request for ``CHANNEL(linkedid)``. These requests are sent more often here than by the bridge, and
recorded only when the response is new. Run it again when a newer Asterisk is to be supported, and read the diff.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from bridge.ari.client import NOISE, AriClient
from bridge.ari.model import Channel, Event, StasisStart, channel_of
from bridge.calls.call import is_party
from bridge.errors import AriError
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import Lab
from tests.lab.ari_requests import originate, play
from tests.lab.desk_phone import desk_phone

FOLDER = Path(__file__).resolve().parents[1] / "wire" / "ari"
UNFILTERED = {"local_echo_in_stasis"}
TALK = (6000 * np.sin(2 * np.pi * 700 * np.arange(8000 * 60) / 8000)).astype(np.int16)


class RecordingClient(AriClient):
    """An ARI client that keeps what it receives."""

    lines: list[str] | None = None
    with_variables = False
    """Keep ``channelvars``, which the lab's ari.conf asks for; most PBXs do not send them."""

    def _take(self, data: bytes) -> None:
        if self.lines is not None:
            line = re.sub(r'"asterisk_id":"[^"]*"', '"asterisk_id":"00:00:00:00:00:01"', data.decode())
            self.lines.append(line if self.with_variables else re.sub(r',"channelvars":\{[^}]*\}', "", line))
        super()._take(data)


class Recorder:
    """The lab with which a scenario plays."""

    def __init__(self, lab: Lab, client: RecordingClient) -> None:
        self.lab = lab
        self.client = client
        self.linkedids: dict[str, str] = {}
        self.questions: set[asyncio.Task[None]] = set()
        client.on_event("*", self._question)

    async def record(self, name: str, scenario: Callable[[Recorder], Awaitable[None]]) -> None:
        await self.client.applications.set_event_filter(self.client.app, () if name in UNFILTERED else NOISE)
        for phone in ("1001", "1002", "1003", "trunk"):
            self.lab.phone(phone).forget()
        self.linkedids.clear()
        self.client.with_variables = name.startswith("with_variables_")
        lines = self.client.lines = []
        await scenario(self)
        await self.until_quiet()
        await asyncio.gather(*self.questions)
        self.client.lines = None
        (FOLDER / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        print(f"{name}: {len(lines)} lines")

    async def until_quiet(self) -> None:
        """Wait until nothing is left of a scenario."""
        for bridge in await self.client.bridges.list():
            if bridge.creator == "Stasis":
                await self.client.bridges.destroy(bridge.id)
        for _ in range(100):
            if not await self.client.channels.list():
                break
            await asyncio.sleep(0.1)
        else:
            for channel in await self.client.channels.list():
                print(f"  left over: {channel.name}")
                await self.client.channels.hangup(channel.id)
        await asyncio.sleep(0.3)

    def _question(self, event: Event) -> None:
        if self.client.lines is None or event.type not in ("ChannelCreated", "ChannelEnteredBridge", "Dial"):
            return
        channel = channel_of(event)
        about = set(event.bridge.channels if event.bridge else ())
        if channel is not None and is_party(channel):
            about.add(channel.id)
        for channel_id in about:
            task = asyncio.create_task(self._ask(channel_id, self.client.lines))
            self.questions.add(task)
            task.add_done_callback(self.questions.discard)

    async def _ask(self, channel_id: str, lines: list[str]) -> None:
        with contextlib.suppress(AriError):
            linkedid = await self.client.channels.get_variable(channel_id, "CHANNEL(linkedid)")
            if self.linkedids.get(channel_id) != linkedid:
                self.linkedids[channel_id] = linkedid
                lines.append(json.dumps({"linkedid": [channel_id, linkedid]}))

    async def originate(self, channel_id: str, endpoint: str) -> None:
        with self.client.expect("StasisStart", channel_id) as started:
            await originate(self.client, endpoint, channel_id)
            await started.wait(5)

    async def dial(self, caller: str, number: str) -> None:
        phone = self.lab.phone(caller)
        await phone.call(number, play=TALK)
        await phone.answered()
        await asyncio.sleep(0.5)

    async def refer(self, phone: str, number: str) -> None:
        """Have the phone transfer its peer elsewhere (a blind transfer)."""
        await self.lab.phone(phone).transfer(number)

    async def consult(self, phone: str, number: str, answers: str = "") -> None:
        """Have the phone call somebody else while its peer waits (the beginning of an attended transfer)."""
        await asyncio.sleep(0.5)
        await self.lab.phone(phone).dtmf("*2")
        await asyncio.sleep(1.5)
        await self.lab.phone(phone).dtmf(number, gap_s=0.2)
        await self.lab.phone(answers or number).answered(15)
        await asyncio.sleep(1)


async def local_echo_in_stasis(rec: Recorder) -> None:
    await rec.originate("echo-1", "Local/600@from-internal")
    await play(rec.client, "echo-1", "tone:ring;tonezone=us")
    await asyncio.sleep(0.2)
    await rec.client.channels.hangup("echo-1")


async def caller_hangs_up(rec: Recorder) -> None:
    await rec.dial("1001", "1002")
    await rec.lab.phone("1001").hangup()


async def callee_hangs_up(rec: Recorder) -> None:
    await rec.dial("1001", "1002")
    await rec.lab.phone("1002").hangup()


async def keys_and_hold(rec: Recorder) -> None:
    """Send DTMF and hold; not resumed: the phone's program hangs at that."""
    await rec.dial("1001", "1002")
    await rec.lab.phone("1001").dtmf("12#")
    await rec.lab.phone("1001").hold()
    await asyncio.sleep(0.7)
    await rec.lab.phone("1002").hangup()


async def not_registered(rec: Recorder) -> None:
    await rec.lab.phone("1001").call("2001", play=TALK)
    await rec.lab.phone("1001").ended()


async def stasis_caller_hangs_up(rec: Recorder) -> None:
    entered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def enter(event: Event) -> None:
        channel = channel_of(event)
        if channel and not entered.done():
            entered.set_result(channel.id)

    stop = rec.client.on_event("StasisStart", enter)
    await rec.lab.phone("1001").call("750", play=TALK)
    channel_id = await asyncio.wait_for(entered, 15)
    stop()
    await rec.client.channels.answer(channel_id)
    await rec.lab.phone("1001").answered()
    await rec.client.bridges.create(bridge_id="room", name="room")
    await rec.client.bridges.add_channel("room", channel_id)
    await rec.originate("speaker", "Local/601@from-internal")
    await rec.client.bridges.add_channel("room", "speaker")
    await asyncio.sleep(0.5)
    await rec.lab.phone("1001").hangup()
    await rec.client.channels.hangup("speaker")


async def pickup(rec: Recorder) -> None:
    """Another phone answers the one that rings."""
    caller, rings, answers = (rec.lab.phone(name) for name in ("1001", "1002", "1003"))
    await rings.command("answermode", "manual")
    await caller.call("1002", play=TALK)
    await rings.called()
    await answers.call("*8", play=TALK)
    await caller.answered()
    await rings.command("answermode", "auto")
    await asyncio.sleep(0.7)
    await answers.hangup()


async def attended_transfer_to_application(rec: Recorder) -> None:
    """Transfer by REFER with Replaces: a Local channel takes the place of the desk phone's."""
    assert isinstance(rec.lab, EmbeddedLab)

    def hold(channel: Channel, event: Event) -> None:
        if isinstance(event, StasisStart) and event.replace_channel is None:
            rec.questions.add(asyncio.create_task(answer(channel.id)))

    async def answer(channel_id: str) -> None:
        await rec.client.bridges.create(bridge_id="room", name="room")
        await rec.client.channels.answer(channel_id)
        await rec.client.bridges.add_channel("room", channel_id)

    stop = rec.client.on_channel_event("StasisStart", hold)
    async with desk_phone(rec.lab) as desk:
        first = await desk.call("1001", 700)
        second = await desk.call("750", 700)
        await asyncio.sleep(0.7)
        await desk.transfer(first, second)
        await second.over.wait()
        await asyncio.sleep(0.7)
        await rec.lab.phone("1001").hangup()
    stop()


async def ivr_then_extension(rec: Recorder) -> None:
    await rec.dial("1001", "710")
    await rec.lab.phone("1001").dtmf("2")
    await rec.lab.phone("1002").answered()
    await asyncio.sleep(0.5)
    await rec.lab.phone("1001").hangup()


async def queue_agent_hangs_up(rec: Recorder) -> None:
    await rec.dial("1001", "700")
    await rec.lab.phone("1002").answered()
    await asyncio.sleep(0.5)
    await rec.lab.phone("1002").hangup()


async def conference_of_three(rec: Recorder) -> None:
    for name in ("1001", "1002", "1003"):
        await rec.dial(name, "720")
    for name in ("1001", "1002", "1003"):
        await rec.lab.phone(name).hangup()
        await asyncio.sleep(0.3)


async def trunk_to_did(rec: Recorder) -> None:
    await rec.dial("trunk", "5551001")
    await rec.lab.phone("trunk").hangup()


async def out_by_trunk(rec: Recorder) -> None:
    await rec.dial("1001", "95550100")
    await rec.lab.phone("1001").hangup()


async def blind_transfer(rec: Recorder) -> None:
    await rec.dial("1001", "1002")
    await rec.refer("1001", "1003")
    await rec.lab.phone("1003").answered()
    await asyncio.sleep(0.7)
    await rec.lab.phone("1003").hangup()


async def silent_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send silence at 16 kHz to an AudioSocket connection, as fast as it sends, until it ends."""
    with contextlib.suppress(OSError):
        while not reader.at_eof():
            writer.write(b"\x12\x02\x80" + bytes(640))
            await reader.read(65536)
    writer.close()


async def dialplan_audiosocket(rec: Recorder) -> None:
    server = await asyncio.start_server(silent_server, rec.lab.audiosocket_bind, rec.lab.audiosocket_port)
    async with server:
        await rec.dial("1001", "752")
        await rec.lab.phone("1001").hangup()
        await asyncio.sleep(0.3)


async def calls_merge(rec: Recorder) -> None:
    for channel_id in ("first", "second", "third"):
        await rec.originate(channel_id, "Local/601@from-internal")
    await rec.client.bridges.create(bridge_id="meeting", name="meeting")
    for channel_id in ("third", "second", "first"):
        await rec.client.bridges.add_channel("meeting", channel_id)
        await asyncio.sleep(0.3)
    for channel_id in ("first", "second", "third"):
        await rec.client.channels.hangup(channel_id)
        await asyncio.sleep(0.1)


async def ring_group(rec: Recorder) -> None:
    await rec.dial("1001", "730")
    await asyncio.sleep(0.5)
    await rec.lab.phone("1001").hangup()


async def page_to_two(rec: Recorder) -> None:
    await rec.dial("1001", "740")
    await asyncio.sleep(1)
    await rec.lab.phone("1001").hangup()


async def park_and_take_up(rec: Recorder) -> None:
    await rec.dial("1001", "1002")
    await rec.refer("1001", "800")
    await rec.lab.phone("1001").ended()
    await asyncio.sleep(1)
    await rec.dial("1003", "801")
    await rec.lab.phone("1003").hangup()


async def queue_agent_transfers(rec: Recorder) -> None:
    await rec.dial("trunk", "5551003")
    await rec.lab.phone("1002").answered()
    await rec.refer("1002", "1003")
    await rec.lab.phone("1003").answered()
    await asyncio.sleep(0.7)
    await rec.lab.phone("trunk").hangup()


async def attended_transfer(rec: Recorder) -> None:
    await rec.dial("trunk", "55521001")
    await rec.consult("1001", "1002")
    await rec.lab.phone("1001").hangup()
    await asyncio.sleep(1)
    await rec.lab.phone("trunk").hangup()


async def attended_transfer_by_caller(rec: Recorder) -> None:
    await rec.dial("1001", "81002")
    await rec.consult("1001", "95550100", "trunk")
    await rec.lab.phone("1001").hangup()
    await asyncio.sleep(1)
    await rec.lab.phone("1002").hangup()


async def freepbx_extension(rec: Recorder) -> None:
    await rec.dial("trunk", "55521001")
    await rec.lab.phone("1001").hangup()


async def freepbx_ring_group(rec: Recorder) -> None:
    await rec.dial("trunk", "5552600")
    await asyncio.sleep(1)
    await rec.lab.phone("trunk").hangup()


async def freepbx_menu_to_queue(rec: Recorder) -> None:
    await rec.dial("trunk", "5552003")
    await rec.lab.phone("trunk").dtmf("7")
    await rec.lab.phone("1002").answered()
    await asyncio.sleep(1)
    await rec.lab.phone("1002").hangup()


async def freepbx_queue_attended_transfer(rec: Recorder) -> None:
    await rec.dial("trunk", "5552701")
    await rec.lab.phone("1002").answered()
    await rec.consult("1002", "1003")
    await rec.lab.phone("1002").hangup()
    await asyncio.sleep(1)
    await rec.lab.phone("trunk").hangup()


async def with_variables_calls_merge(rec: Recorder) -> None:
    await calls_merge(rec)


async def with_variables_menu_to_queue(rec: Recorder) -> None:
    await freepbx_menu_to_queue(rec)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        local_echo_in_stasis,
        caller_hangs_up,
        callee_hangs_up,
        not_registered,
        stasis_caller_hangs_up,
        pickup,
        attended_transfer_to_application,
        ivr_then_extension,
        queue_agent_hangs_up,
        conference_of_three,
        trunk_to_did,
        out_by_trunk,
        blind_transfer,
        dialplan_audiosocket,
        calls_merge,
        keys_and_hold,
        ring_group,
        page_to_two,
        park_and_take_up,
        queue_agent_transfers,
        attended_transfer,
        attended_transfer_by_caller,
        freepbx_extension,
        freepbx_ring_group,
        freepbx_menu_to_queue,
        freepbx_queue_attended_transfer,
        with_variables_calls_merge,
        with_variables_menu_to_queue,
    )
}


async def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="ari-rec-") as folder:
        lab = EmbeddedLab(Path(folder))
        await lab.start()
        client = RecordingClient(lab.ari_url, lab.ari_user, lab.ari_password, lab.ari_app)
        try:
            await client.start(wait=True)
            for name in ("1001", "1002", "1003", "trunk"):
                await lab.phone(name).start()
            recorder = Recorder(lab, client)
            for name in names or SCENARIOS:
                try:
                    await recorder.record(name, SCENARIOS[name])
                except Exception as exc:
                    print(f"{name}: FAILED: {type(exc).__name__}: {exc}")
                    client.lines = None
                    await recorder.until_quiet()
        finally:
            await client.stop()
            await lab.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
