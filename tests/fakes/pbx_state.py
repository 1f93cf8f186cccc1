"""The state of a PBX in memory: its channels, bridges and recordings, what phones do, and the events that follow."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any, Protocol

Json = dict[str, Any]
NORMAL, NORMAL_TEXT = 16, "Normal Clearing"
TIME = "2026-11-21T01:47:13.519+0000"


class Receiver(Protocol):
    """An application's events connection."""

    app: str

    def receive_soon(self, event: bytes, /) -> None:
        """Receive an event, after what runs now."""


@dataclass
class FakeChannel:
    """A channel; ``resource`` is what ARI shows of it."""

    resource: Json
    linkedid: str
    app: str | None = None
    """The Stasis application that it is in."""
    variables: dict[str, str] = field(default_factory=dict)
    dialstring: str = ""
    """What it was dialed by."""
    muted: set[str] = field(default_factory=set)
    """Directions in which no audio flows."""
    step: int = 0
    """How many applications of its extension it has run."""
    incoming: bool = False
    """It runs the dialplan: a phone has opened it."""

    @property
    def id(self) -> str:
        return str(self.resource["id"])

    @property
    def up(self) -> bool:
        return bool(self.resource["state"] == "Up")


class PbxState:
    """Channels, bridges and recordings; what phones do are methods.

    Args:
        app: the Stasis application that extensions of the dialplan lead to.
        with_variables: whether ari.conf has ``CHANNEL(linkedid)`` among its ``channelvars``.
    """

    def __init__(self, app: str = "bridge", *, with_variables: bool = False) -> None:
        self.app = app
        self.channels: dict[str, FakeChannel] = {}
        self.bridges: dict[str, Json] = {}
        self.recordings: dict[str, Json] = {}
        """Live ones."""
        self.stored: dict[str, Json] = {}
        self.dialplan: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
            ("from-internal", "750"): (("Stasis", f"{app},750"),),
            ("from-internal", "600"): (("Answer", ""), ("Echo", "")),
        }
        """Applications with their data, by context and extension."""
        self.events: list[bytes] = []
        """All that happened, as Asterisk's own log of events would have it."""
        self.clients: list[Receiver] = []
        self._with_variables = with_variables
        self._numbers = itertools.count(1)

    # What phones, the dialplan and the network do

    def call(self, endpoint: str, extension: str, *, channel_id: str = "", context: str = "from-internal") -> str:
        """Have a phone call an extension; return the id of its channel."""
        channel = self.come(channel_id or f"lab-{next(self._numbers)}", endpoint, extension, context=context)
        self._follow_dialplan(channel, (context, extension))
        return channel.id

    def come(
        self, channel_id: str, endpoint: str, extension: str = "s", *, context: str = "from-internal",
        state: str = "Ring", linkedid: str = "", name: str = "",
    ) -> FakeChannel:  # fmt: skip
        """Create a channel of a phone or trunk, outside our application."""
        name = name or f"PJSIP/{endpoint}-{next(self._numbers):08x}"
        channel = self._add(channel_id, name, state, context, extension, number=endpoint, linkedid=linkedid)
        channel.incoming = True
        return channel

    def run(self, channel_id: str, application: str, data: str = "") -> None:
        """Have a channel continue with an application of the dialplan."""
        channel = self.channels[channel_id]
        channel.resource["dialplan"] |= {"app_name": application, "app_data": data}
        self.emit("ChannelDialplan", channel, dialplan_app=application, dialplan_app_data=data)
        if application == "Answer" and not channel.up:
            self.state(channel_id, "Up")
        elif application == "Stasis":
            app, *arguments = data.split(",")
            self._enter_stasis(channel, app, arguments)

    def state(self, channel_id: str, state: str) -> None:
        """Change a channel's state."""
        channel = self.channels[channel_id]
        channel.resource["state"] = state
        self.emit("ChannelStateChange", channel)

    def replace(self, old_id: str, new_id: str) -> None:
        """Have a channel take the place of one in an application: by a transfer, or by a pickup."""
        old, new = self.channels[old_id], self.channels[new_id]
        bridge_id = self.bridge_of(old_id)
        assert old.app is not None
        self._enter_stasis(new, old.app, [], replaced=old)
        if bridge_id is not None:
            self._leave(old)
            self._join(self.bridges[bridge_id], new)
        self._end(old, NORMAL, NORMAL_TEXT)

    def transfer(self, channel_id: str, other_id: str) -> str:
        """Have a phone transfer another party to one in an application; return the channel that replaces its own.

        Args:
            channel_id: the phone's channel in the application.
            other_id: the channel of the other party, outside of it.
        """
        linkedid, number = self.channels[other_id].linkedid, next(self._numbers)
        halves = [
            self.come(
                f"lab-{next(self._numbers)}", "", "_attended", context="transfer", state=state, linkedid=linkedid,
                name=f"Local/_attended@transfer-{number:08x};{half}",
            )
            for half, state in ((1, "Down"), (2, "Up"))
        ]  # fmt: skip
        self.replace(channel_id, halves[1].id)
        for member in (other_id, halves[0].id):
            self.enter_bridge(f"basic-{number}", member, bridge_class="basic")
        return halves[1].id

    def rings(self, channel_id: str) -> None:
        """Have a called phone ring."""
        self.state(channel_id, "Ringing")
        self._dialed(self.channels[channel_id], "RINGING", "")

    def pick_up(self, channel_id: str) -> None:
        """Have a called phone answer."""
        self.state(channel_id, "Up")
        self._dialed(self.channels[channel_id], "ANSWER", "")

    def press(self, channel_id: str, digits: str) -> None:
        """Have a phone send DTMF digits."""
        for digit in digits:
            self.emit("ChannelDtmfReceived", self.channels[channel_id], digit=digit, duration_ms=100)

    def hang_up(self, channel_id: str, cause: int = NORMAL, text: str = NORMAL_TEXT) -> None:
        """Have a phone hang up, or reject a call."""
        channel = self.channels[channel_id]
        why: Json = {} if channel.incoming else {"cause": cause}
        self.emit("ChannelHangupRequest", channel, **why)
        if channel.incoming and channel.app is None:
            self._end(channel, 0, "Unknown")
        else:
            self._end(channel, cause, text)

    def reject(self, channel_id: str, sip_code: int, cause: int, text: str) -> None:
        """Have a called phone reject a call with a SIP response."""
        channel = self.channels[channel_id]
        self.emit("ChannelHangupRequest", channel, cause=cause)
        self._end(channel, cause, text, tech_cause=sip_code)

    def forward(self, channel_id: str, to: str) -> None:
        """Have a called phone answer 302 Moved Temporarily."""
        self._dialed(self.channels[channel_id], "CANCEL", "", forward=to)
        self.reject(channel_id, 302, 23, "Call redirected to new destination")

    def enter_bridge(self, bridge_id: str, channel_id: str, **bridge: str) -> None:
        """Have the dialplan put a channel into a bridge of its own: a call's, a ConfBridge room."""
        if bridge_id not in self.bridges:
            values = {"technology": "simple_bridge", "bridge_type": "base", "bridge_class": "base"} | bridge
            self.bridges[bridge_id] = new_bridge(bridge_id, **values)
            self.emit("BridgeCreated", bridge=self.bridges[bridge_id])
        self._join(self.bridges[bridge_id], self.channels[channel_id])

    def leave_bridge(self, channel_id: str) -> None:
        """Have a channel leave the bridge that it is in."""
        self._leave(self.channels[channel_id])

    def bridge_of(self, channel_id: str) -> str | None:
        """Return the id of the bridge that a channel is in."""
        return next((each["id"] for each in self.bridges.values() if channel_id in each["channels"]), None)

    def emit(self, kind: str, channel: FakeChannel | None = None, *, bridge: Json | None = None, **more: Any) -> None:
        """Send an event to every connected client, after what runs now."""
        event: Json = {"type": kind, "timestamp": TIME, **more}
        if channel is not None:
            event["channel"] = self.show(channel)
        if bridge is not None:
            event["bridge"] = bridge
        self.events.append(json.dumps(event | {"asterisk_id": "", "application": self.app}).encode())
        for client in self.clients:
            data = json.dumps(event | {"asterisk_id": "00:00:00:00:00:01", "application": client.app}).encode()
            client.receive_soon(data)

    def show(self, channel: FakeChannel) -> Json:
        """Return what ARI shows of a channel."""
        if self._with_variables:
            return channel.resource | {"channelvars": {"CHANNEL(linkedid)": channel.linkedid}}
        return channel.resource

    # What phones and ARI have in common

    def _follow_dialplan(self, channel: FakeChannel, place: tuple[str, str]) -> None:
        for name, data in self.dialplan.get(place, ())[channel.step :]:
            channel.step += 1
            self.run(channel.id, name, data)
            if channel.app is not None:
                break

    def _finish_recording(self, name: str) -> None:
        recording = self.recordings.pop(name)
        self.stored[name] = {"name": name, "format": recording["format"]}
        self.emit("RecordingFinished", recording=recording | {"state": "done", "duration": 1})

    def _add(
        self, channel_id: str, name: str, state: str, context: str, extension: str, *, number: str = "",
        linkedid: str = "",
    ) -> FakeChannel:  # fmt: skip
        resource = {
            "id": channel_id, "name": name, "state": state, "protocol_id": "",
            "caller": {"name": "", "number": number}, "connected": {"name": "", "number": ""}, "accountcode": "",
            "dialplan": {"context": context, "exten": extension, "priority": 1, "app_name": "", "app_data": ""},
            "creationtime": TIME, "language": "en",
        }  # fmt: skip
        channel = self.channels[channel_id] = FakeChannel(resource, linkedid or channel_id)
        self.emit("ChannelCreated", channel)
        return channel

    def _enter_stasis(
        self, channel: FakeChannel, app: str, arguments: list[str], replaced: FakeChannel | None = None
    ) -> None:
        if not any(client.app == app for client in self.clients):
            self._end(channel, 0, "Unknown")
            return
        channel.app = app
        channel.resource["dialplan"] |= {"app_name": "Stasis", "app_data": ",".join([app, *arguments])}
        more = {} if replaced is None else {"replace_channel": self.show(replaced)}
        self.emit("StasisStart", channel, args=arguments, **more)

    def _leave_stasis(self, channel: FakeChannel) -> None:
        if channel.app is not None:
            self.emit("StasisEnd", channel)
            channel.app = None

    def _dialed(self, channel: FakeChannel, status: str, dialstring: str, *, forward: str = "") -> None:
        self.emit("Dial", dialstatus=status, forward=forward, dialstring=dialstring, peer=self.show(channel))

    def _join(self, bridge: Json, channel: FakeChannel) -> None:
        self._leave(channel)
        bridge["channels"].append(channel.id)
        self.emit("ChannelEnteredBridge", channel, bridge=bridge)

    def _leave(self, channel: FakeChannel) -> None:
        bridge_id = self.bridge_of(channel.id)
        if bridge_id is not None:
            bridge = self.bridges[bridge_id]
            bridge["channels"].remove(channel.id)
            self.emit("ChannelLeftBridge", channel, bridge=bridge)

    def _end(self, channel: FakeChannel, cause: int, text: str, **more: Any) -> None:
        for live in [each for each in self.recordings.values() if each["target_uri"] == f"channel:{channel.id}"]:
            self._finish_recording(live["name"])
        self._leave(channel)
        self._leave_stasis(channel)
        if channel.incoming:
            self.emit("ChannelHangupRequest", channel, cause=NORMAL, soft=True)
        channel.resource["dialplan"] |= {"app_name": "", "app_data": ""}
        del self.channels[channel.id]
        self.emit("ChannelDestroyed", channel, cause=cause, cause_txt=text, **more)


def new_bridge(bridge_id: str, **values: str) -> Json:
    """Return what ARI shows of an empty bridge."""
    return {
        "id": bridge_id, "technology": "simple_bridge", "bridge_type": "mixing", "bridge_class": "stasis",
        "creator": "", "name": "", "channels": [], "creationtime": TIME, "video_mode": "talker", **values,
    }  # fmt: skip
