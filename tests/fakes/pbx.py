"""An Asterisk in memory: channels, bridges and recordings, ARI's requests and the events that they cause.

Code under test talks to it by the real `AriClient`, of which tests/fakes/ari_client.py replaces the sockets only:
paths, parameters, decoding and the dispatching of events are the product's. The contract with a real Asterisk is
tests/unit/test_fake_pbx.py, against the transcripts of tests/wire/ari_requests.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from bridge.ari.rest import Parameter
from tests.fakes.pbx_state import NORMAL, NORMAL_TEXT, FakeChannel, Json, PbxState, new_bridge


class Refused(Exception):
    """ARI answers with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class FakePbx(PbxState):
    """The PBX as ARI shows it: requests arrive by `answer`, what phones do by the methods of `PbxState`.

    Args:
        app: the Stasis application that extensions of the dialplan lead to.
        with_variables: whether ari.conf has ``CHANNEL(linkedid)`` among its ``channelvars``.
    """

    def __init__(self, app: str = "bridge", *, with_variables: bool = False) -> None:
        super().__init__(app, with_variables=with_variables)
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
        self.timeouts: list[int] = []
        """For how many seconds each dialed phone may ring."""
        self.hangup_reasons: dict[str, str] = {}
        """With which reason channels were hung up, by channel."""
        self.failures: dict[str, Exception] = {}
        """What requests fail with whose "METHOD PATH" matches a key, a regular expression."""
        self.on_external_media: Callable[[FakeChannel, Mapping[str, Parameter]], None] = lambda *_: None
        """Called for each AudioSocket connection that the PBX opens."""

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

    def _unless_taken(self, channel_id: str) -> None:
        if channel_id in self.channels:
            raise Refused(409, "Channel with given unique ID already exists")

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
        bridge = self.bridges[bridge_id] = new_bridge(bridge_id, name=params.get("name") or "", creator="Stasis")
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

    def _hang_up(self, channel: FakeChannel) -> None:
        self.emit("ChannelHangupRequest", channel, cause=32, soft=True)
        self._end(channel, NORMAL, NORMAL_TEXT)


def _arguments(params: Mapping[str, Parameter]) -> list[str]:
    return [each for each in str(params.get("appArgs") or "").split(",") if each]
