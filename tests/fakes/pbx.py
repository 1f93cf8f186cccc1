"""An Asterisk in memory: channels, bridges and recordings, ARI's requests and the events that they cause.

Code under test talks to it by the real `AriClient`, of which tests/fakes/ari_client.py replaces the sockets only:
paths, parameters, decoding and the dispatching of events are the product's. The contract with a real Asterisk is
tests/unit/test_fake_pbx.py, against the transcripts of tests/wire/ari_requests.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

from bridge.ari.rest import Parameter

Json = dict[str, Any]
NORMAL, NORMAL_TEXT = 16, "Normal Clearing"
TIME = "2026-11-21T01:47:13.519+0000"


class Refused(Exception):
    """ARI answers with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


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


class FakePbx:
    """The PBX: what phones do are methods, what ARI does arrives by `answer`.

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
        self.codec = "ulaw"
        """Of all phones, by Asterisk's name."""
        self.requests: list[str] = []
        """Method and path of every request that changes something."""
        self.questions: list[str] = []
        """Path of every other request, and the variable that it requests."""
        self.answering = asyncio.Event()
        """Every request waits for this."""
        self.answering.set()
        self.gates: dict[str, asyncio.Event] = {}
        """What requests wait for whose "METHOD PATH" matches a key, a regular expression."""
        self.late: dict[str, asyncio.Event] = {}
        """The same for answers: the request has been carried out, and its answer is on the way."""
        self.most_at_once = 0
        """How many requests were ever under way at the same time."""
        self._waiting = 0
        self.version = "22.10.1"
        self.unknown = {"nobody"}
        """Resources that cannot be dialed."""
        self.started_at = "2026-01-31T12:00:00.000+0000"
        """When Asterisk was started."""
        self.packets: dict[str, int] = {}
        """How many RTP packets a channel has sent, for those that have RTP."""
        self.offline: set[str] = set()
        """Endpoints at which nothing is registered."""
        self.events: list[bytes] = []
        """All that happened, as Asterisk's own log of events would have it."""
        self.timeouts: list[int] = []
        """For how many seconds each dialed phone may ring."""
        self.hangup_reasons: dict[str, str] = {}
        """With which reason channels were hung up, by channel."""
        self.failures: dict[str, Exception] = {}
        """What requests fail with whose "METHOD PATH" matches a key, a regular expression."""
        self.on_external_media: Callable[[FakeChannel, Mapping[str, Parameter]], None] = lambda *_: None
        """Called for each AudioSocket connection that the PBX opens."""
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
            self.bridges[bridge_id] = _bridge(bridge_id, **values)
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

    # What ARI does

    async def answer(self, method: str, path: str, params: Mapping[str, Parameter], body: Any) -> bytes:
        """Answer a request.

        Returns:
            The body of the answer; empty for 204.

        Raises:
            Refused: the answer is an error.
            AriError: as ``failures`` has it.
        """
        variable = params.get("variable", "")
        (self.questions if method == "GET" else self.requests).append(f"{method} {path} {variable}".rstrip())
        self._waiting += 1
        self.most_at_once = max(self.most_at_once, self._waiting)
        try:
            await asyncio.sleep(0)
            await self.answering.wait()
            for pattern, gate in self.gates.items():
                if re.search(pattern, f"{method} {path}"):
                    await gate.wait()
        finally:
            self._waiting -= 1
        for pattern in self.failures:
            if re.search(pattern, f"{method} {path}"):
                raise self.failures[pattern]
        answer = self.handle(method, path, params, body)
        content = b"" if answer is None else json.dumps(answer).encode()
        for pattern, gate in self.late.items():
            if re.search(pattern, f"{method} {path}"):
                await gate.wait()
        return content

    def handle(self, method: str, path: str, params: Mapping[str, Parameter], body: Any = None) -> object:
        """Do what a request asks for; return the JSON of its answer, None for 204."""
        where, *rest = [unquote(each) for each in path.strip("/").split("/")]
        match method, where, rest:
            case "GET", "channels", []:
                return [self.show(each) for each in self.channels.values()]
            case "POST", "channels", ["create" | "externalMedia" as what]:
                return self._create(params, body) if what == "create" else self._external_media(params, body)
            case "GET", "channels", [channel_id]:
                return self.show(self._find(channel_id))
            case "DELETE", "channels", [channel_id]:
                self.hangup_reasons[channel_id] = str(params.get("reason") or "normal")
                return self._hang_up(self._find(channel_id))
            case "GET", "channels", [channel_id, "variable"]:
                channel = self._find(channel_id, "Provided channel was not found")
                return {"value": self._variable(channel, str(params["variable"]))}
            case "POST", "channels", [channel_id, "snoop"]:
                return self._snoop(self._find(channel_id, "Provided channel was not found"), params)
            case "GET", "channels", [channel_id, "rtp_statistics"]:
                if channel_id not in self.packets:
                    raise Refused(404, "RTP info not found for this channel")
                return {"txcount": 0, "rxcount": self.packets[channel_id]}
            case _, "channels", [channel_id, verb]:
                return self._act(method, self._find(channel_id), verb, params)
            case "GET", "asterisk", ["info"]:
                return {"system": {"version": self.version}, "status": {"startup_time": self.started_at}}
            case "GET", "endpoints", [technology, name]:
                if name in self.unknown:
                    raise Refused(404, "Endpoint not found")
                state = "offline" if name in self.offline else "online"
                prefix = f"{technology}/{name}-"
                own = [each.id for each in self.channels.values() if each.resource["name"].startswith(prefix)]
                return {"technology": technology, "resource": name, "state": state, "channel_ids": own}
            case "GET", "bridges", []:
                return list(self.bridges.values())
            case "POST", "bridges", []:
                return self._create_bridge(params)
            case _, "bridges", [bridge_id, *more]:
                return self._act_on_bridge(method, bridge_id, more, params)
            case "GET", "recordings", ["live", name]:
                if name not in self.recordings:
                    raise Refused(404, "Recording not found")
                return self.recordings[name]
            case _, "recordings", ["live", name, verb]:
                return self._act_on_recording(method, name, verb)
            case _, "recordings", ["stored", name]:
                return self._act_on_stored(method, name)
            case _, "applications", [name, *_]:
                return {"name": name}
        raise Refused(404, "Invalid method")

    def _find(self, channel_id: str, problem: str = "Channel not found") -> FakeChannel:
        if channel_id not in self.channels:
            raise Refused(404, problem)
        return self.channels[channel_id]

    def _act(self, method: str, channel: FakeChannel, verb: str, params: Any) -> object:
        if channel.app is None:
            raise Refused(409, "Channel not in Stasis application")
        match method, verb:
            case "POST", "variable":
                channel.variables[params["variable"]] = params["value"]
            case "POST", "answer":
                if not channel.up:
                    self.state(channel.id, "Up")
            case "POST", "continue":
                self._continue(channel, params)
            case "POST", "dial":
                self.timeouts.append(int(params.get("timeout") or 0))
                self._dial(channel)
            case "POST", "record":
                return self._record(channel, params)
            case "POST", "mute":
                channel.muted.add(params["direction"])
            case "DELETE", "mute":
                channel.muted.discard(params["direction"])
            case _, "ring" | "hold" | "moh" | "silence" | "dtmf":
                pass  # changes what the party hears, which nobody hears here
            case _:
                raise Refused(404, "Invalid method")
        return None

    def _variable(self, channel: FakeChannel, name: str) -> str:
        if name == "CHANNEL(linkedid)":
            return channel.linkedid
        if name == "CHANNEL(audionativeformat)":
            return f"({self.codec})"
        if name not in channel.variables:
            raise Refused(404, "Provided variable was not found")
        return channel.variables[name]

    def _create(self, params: Any, body: Any) -> Json:
        technology, _, resource = params["endpoint"].partition("/")
        channel_id = params.get("channelId") or f"lab-{next(self._numbers)}"
        self._unless_taken(channel_id)
        if {resource, resource.rpartition("@")[2]} & (self.unknown | self.offline):
            raise Refused(500, "Allocation failed")
        originator = self.channels.get(params.get("originator") or "")
        channel = self._add(
            channel_id, f"{technology}/{resource.partition('@')[0]}-{next(self._numbers):08x}", "Down",
            "default", "s", linkedid=originator.linkedid if originator else "",
        )  # fmt: skip
        channel.variables |= (body or {}).get("variables", {})
        channel.dialstring = resource
        self.run(channel.id, "Stasis", ",".join([params["app"], *_arguments(params)]))
        return self.show(channel)

    def _dial(self, channel: FakeChannel) -> None:
        self._dialed(channel, "", channel.dialstring)

    def _external_media(self, params: Any, body: Any) -> Json:
        self._unless_taken(params["channelId"])
        host = params["external_host"]
        name = f"AudioSocket/{host}-{params['data']}"
        channel = self._add(params["channelId"], name, "Down", "default", "s")
        channel.variables |= (body or {}).get("variables", {})
        channel.dialstring = f"{host}/{params['data']}"
        self.run(channel.id, "AppDial2", "(Outgoing Line)")
        self._dialed(channel, "", channel.dialstring)
        self.state(channel.id, "Up")
        self._dialed(channel, "ANSWER", channel.dialstring)
        self._enter_stasis(channel, params["app"], [params["data"]])
        self.on_external_media(channel, params)
        return self.show(channel)

    def _snoop(self, party: FakeChannel, params: Any) -> Json:
        self._unless_taken(params["snoopId"])
        name = f"Snoop/{party.id}-{next(self._numbers):08x}"
        channel = self._add(params["snoopId"], name, "Up", "default", "s")
        shown = self.show(channel)
        self.run(channel.id, "Stasis", params["app"])
        return shown

    def _record(self, channel: FakeChannel, params: Any) -> Json:
        name = params["name"]
        recording = self.recordings[name] = {
            "name": name, "format": params["format"], "state": "recording", "target_uri": f"channel:{channel.id}",
        }  # fmt: skip
        self.emit("RecordingStarted", recording=recording)
        return recording | {"state": "queued"}

    def _act_on_recording(self, method: str, name: str, verb: str) -> None:
        if name not in self.recordings:
            raise Refused(404, "Recording not found")
        if (method, verb) == ("POST", "stop"):
            self._finish_recording(name)

    def _finish_recording(self, name: str) -> None:
        recording = self.recordings.pop(name)
        self.stored[name] = {"name": name, "format": recording["format"]}
        self.emit("RecordingFinished", recording=recording | {"state": "done", "duration": 1})

    def _act_on_stored(self, method: str, name: str) -> Json | None:
        if name not in self.stored:
            raise Refused(404, "Recording not found")
        if method == "DELETE":
            del self.stored[name]
            return None
        return self.stored[name]

    def _create_bridge(self, params: Any) -> Json:
        bridge_id = params["bridgeId"]
        if bridge_id in self.bridges:
            raise Refused(409, "Bridge with that ID already exists")
        bridge = self.bridges[bridge_id] = _bridge(bridge_id, name=params.get("name") or "", creator="Stasis")
        self.emit("BridgeCreated", bridge=bridge)
        return bridge

    def _act_on_bridge(self, method: str, bridge_id: str, more: list[str], params: Any) -> object:
        bridge = self.bridges.get(bridge_id)
        if bridge is None:
            raise Refused(404, "Bridge not found")
        if not more:
            return bridge if method == "GET" else self._destroy(bridge)
        if bridge["bridge_class"] != "stasis":
            raise Refused(409, "Bridge not in Stasis application")
        channel = self.channels.get(params["channel"])
        if channel is None:
            raise Refused(400, "Channel not found")
        if channel.app is None:
            raise Refused(422, "Channel not in Stasis application")
        if more == ["addChannel"]:
            self._join(bridge, channel)
        elif channel.id in bridge["channels"]:
            self._leave(channel)
        else:
            raise Refused(422, "Channel not in this bridge")
        return None

    def _destroy(self, bridge: Json) -> None:
        if bridge["bridge_class"] != "stasis":
            raise Refused(409, "Bridge not in Stasis application")
        for channel_id in list(bridge["channels"]):
            self._leave(self.channels[channel_id])
        del self.bridges[bridge["id"]]
        self.emit("BridgeDestroyed", bridge=bridge)

    def _continue(self, channel: FakeChannel, params: Any) -> None:
        self._leave(channel)
        self._leave_stasis(channel)
        dialplan = channel.resource["dialplan"]
        name, data = dialplan["app_name"], dialplan["app_data"]
        self.emit("ChannelDialplan", channel, dialplan_app=name, dialplan_app_data=data)  # sic
        place = (params.get("context") or dialplan["context"], params.get("extension") or dialplan["exten"])
        if params.get("extension"):
            channel.step = int(params.get("priority") or 1) - 1
        dialplan |= {"context": place[0], "exten": place[1], "priority": channel.step + 1}
        if len(self.dialplan.get(place, ())) <= channel.step:
            self._end(channel, NORMAL, NORMAL_TEXT)
        self._follow_dialplan(channel, place)

    def _follow_dialplan(self, channel: FakeChannel, place: tuple[str, str]) -> None:
        for name, data in self.dialplan.get(place, ())[channel.step :]:
            channel.step += 1
            self.run(channel.id, name, data)
            if channel.app is not None:
                break

    def _hang_up(self, channel: FakeChannel) -> None:
        self.emit("ChannelHangupRequest", channel, cause=32, soft=True)
        self._end(channel, NORMAL, NORMAL_TEXT)

    # What all of these have in common

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

    def _unless_taken(self, channel_id: str) -> None:
        if channel_id in self.channels:
            raise Refused(409, "Channel with given unique ID already exists")

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


def _arguments(params: Mapping[str, Parameter]) -> list[str]:
    return [each for each in str(params.get("appArgs") or "").split(",") if each]


def _bridge(bridge_id: str, **values: str) -> Json:
    return {
        "id": bridge_id, "technology": "simple_bridge", "bridge_type": "mixing", "bridge_class": "stasis",
        "creator": "", "name": "", "channels": [], "creationtime": TIME, "video_mode": "talker", **values,
    }  # fmt: skip
