"""A PBX that is written by hand, event by event."""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.ari.model import decode_event
from bridge.calls.call import Call
from bridge.calls.facts import party_facts
from bridge.calls.model import CallModel
from bridge.config import PbxConfig

NAMING = PbxConfig()


class Pbx:
    """Writes the events of a PBX whose ari.conf sends the linkedid; every channel is part of one call."""

    def __init__(self) -> None:
        self.model = CallModel("bridge")
        self.channels: dict[str, dict[str, Any]] = {}
        self.bridges: dict[str, dict[str, Any]] = {}
        self.changes: list[Any] = []

    @property
    def call(self) -> Call:
        (call,) = self.model.calls.values()
        return call

    def flow(self, channel_id: str, naming: PbxConfig = NAMING) -> str:
        return party_facts(self.call, self.call.parties[channel_id], naming).callflow

    def event(self, type_: str, **more: Any) -> None:
        self.changes = self.model.apply(decode_event(msgspec.json.encode({"type": type_, **more})), 0.0)

    def new(
        self, channel_id: str, name: str, context: str = "from-internal", exten: str = "s", state: str = "Down",
        number: str = "", **variables: str,
    ) -> None:  # fmt: skip
        self.channels[channel_id] = {
            "id": channel_id,
            "name": name,
            "state": state,
            "caller": {"number": number},
            "connected": {"number": ""},
            "dialplan": {"context": context, "exten": exten, "priority": 1},
            "channelvars": {"CHANNEL(linkedid)": next(iter(self.channels), channel_id), **variables},
        }
        self.event("ChannelCreated", channel=self.channels[channel_id])

    def comes(self, channel_id: str, name: str, context: str, exten: str, number: str = "", **variables: str) -> None:
        self.new(channel_id, name, context, exten, "Ring", number, **variables)

    def at(self, channel_id: str, place: str, app: str, data: str = "", **channel: Any) -> None:
        context, exten, priority = place.split(",")
        plan = {"context": context, "exten": exten, "priority": int(priority), "app_name": app, "app_data": data}
        self.channels[channel_id] |= {"dialplan": plan, **channel}
        self.event("ChannelDialplan", channel=self.channels[channel_id])

    def dial(self, caller: str, peer: str, dialstring: str, app: str = "AppDial") -> None:
        self.channels[peer]["dialplan"] |= {"app_name": app, "app_data": "(Outgoing Line)"}
        self.event("Dial", caller=self.channels[caller], peer=self.channels[peer], dialstring=dialstring)

    def up(self, *ids: str) -> None:
        for channel_id in ids:
            self.channels[channel_id]["state"] = "Up"
            self.event("ChannelStateChange", channel=self.channels[channel_id])

    def joins(self, bridge_id: str, *ids: str, creator: str = "", kind: str = "basic") -> None:
        new = {"id": bridge_id, "creator": creator, "bridge_class": kind, "channels": []}
        bridge = self.bridges.setdefault(bridge_id, new)
        for channel_id in ids:
            bridge["channels"].append(channel_id)
            self.event("ChannelEnteredBridge", channel=self.channels[channel_id], bridge=bridge)

    def gone(self, *ids: str) -> None:
        for channel_id in ids:
            self.event("ChannelDestroyed", channel=self.channels[channel_id])

    def agent(self, number: int, context: str = "from-queue", app: str = "AppQueue") -> str:
        """Somebody is rung through a Local channel, for ``in``; returns the phone's channel."""
        name, one, two, phone = f"Local/{number}@{context}-0{number}", f"l{number}.1", f"l{number}.2", f"p{number}"
        self.new(one, f"{name};1", context, str(number))
        self.new(two, f"{name};2", context, str(number), "Ring")
        self.dial("in", one, f"Local/{number}@{context}/n", app)
        self.at(two, f"ext-local,{number},1", "Gosub", f"macro-exten-vm,s,1({number})")
        self.at(two, "macro-dial-one,s,56", "Dial", f"PJSIP/{number}/sip:{number}@10.0.0.7:5060,,tTri")
        self.new(phone, f"PJSIP/{number}-0000", number=str(number))
        self.dial(two, phone, f"{number}/sip:{number}@10.0.0.7:5060")
        return phone
