"""A PBX as the API sees it: calls, their events, and parts that carry out requests and record them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from bridge.access import Principal
from bridge.api.backend import Backend, CallServices, ConferenceServices
from bridge.audio.sound import Sound
from bridge.calls.addresses import Address
from bridge.calls.call import Call, Party
from bridge.calls.call_record import CallRecord
from bridge.calls.records import Records
from bridge.config import Config, FlowConfig, TwilioConfig, Vendors, VoxologyConfig
from bridge.control.outbound_calls import Groupcall, OriginatedCalls, OriginateRequest
from bridge.control.recorder import Recording
from bridge.dialects.twilio import Twilio
from bridge.errors import AriError
from bridge.events.hub import Events
from bridge.flows.action_settings import ActionSettings
from bridge.flows.checking import check_possible
from bridge.flows.program import Program
from bridge.flows.syntax import parse_in_thread
from bridge.media.counters import Counters
from bridge.patterns import Patterns
from bridge.speech.engine import SpeechFailed, Utterance
from bridge.streams.media_stream_endpoint import MediaStreamOptions

from .sample_parts import NOW, RECORDINGS, FewConferences, FewRecordings, SensitiveCalls, Sounds

CREATED = "2026-01-31T12:00:00.123+0100"
TOKEN = "0123456789abcdef"
VOXOLOGY_KEY = "voxology-key-0123"
UPGRADE = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
"""The headers of a WebSocket handshake."""
FLOWS = (
    FlowConfig(
        id="greeting",
        match=Patterns(("600",)),
        actions=(
            {"type": "talk", "option": {"text": "Hello"}},
            {
                "type": "external_media_start",
                "option": {"url": "wss://app.example/call?key=confidential", "auth_value": "confidential"},
            },
        ),
    ),
    FlowConfig.model_validate(
        {"id": "fetched", "url": "https://app.example/flow?key=confidential", "auth_value": "confidential"}
    ),
)


def make_call(identity: str, *, answered: bool = True, created: str = CREATED, peer: str = "Up") -> Call:
    """Return a call of 1001, who has dialed 1002."""
    caller = Party(identity, 1, f"PJSIP/1001-{identity}", "1001", "Up" if answered else "Ring", "1001", "Alice")
    caller.connected_number, caller.exten, caller.created = "1002", "1002", created
    callee = Party(f"{identity}.peer", 2, f"PJSIP/1002-{identity}", "1002", peer, "1002", "Bob", created=created)
    return Call(identity, created, {caller.id: caller, callee.id: callee}, answered)


@dataclass
class Pbx:
    """Everything behind the API. ``done`` lists the requests, ``failure`` is what each of them raises."""

    calls: dict[str, Call] = field(default_factory=dict)
    connected: bool = True
    failure: Exception | None = None
    done: list[tuple[Any, ...]] = field(default_factory=list)
    lasting: bool = False
    """Whether calls and conferences stay whatever is done to them."""
    listening: bool = True
    open_streams: list[Mapping[str, object]] = field(default_factory=lambda: [STREAM])
    accepted: list[tuple[str, str, MediaStreamOptions]] = field(default_factory=list)
    """Media streams of calls: call, party, options."""

    def __post_init__(self) -> None:
        self.records = Records(Events(), lambda: NOW)
        self.groups: dict[str, Groupcall] = {}
        self._numbers = itertools.count(1)

    @property
    def ids(self) -> Iterator[str]:
        return iter(self.calls)

    def find(self, identity: str, /) -> tuple[Call, Party] | None:
        for call in self.calls.values():
            for party in call.parties.values():
                if identity in (call.id, party.id):
                    return call, party
        return None

    def add(self, identity: str, status: str = "progressing", **values: Any) -> CallRecord:
        """Add an originated call, with its record."""
        record = self.records.originated(
            identity, source=Address("extension", "1001"), destination=Address("tel", "+4930123456")
        )
        self.calls[identity] = make_call(identity, answered=status == "progressing")
        self.records.update(identity, status=status, **values)
        return record

    def end(self, identity: str) -> None:
        """End a call."""
        self.calls.pop(identity, None)
        self.records.failed(identity)

    def do(self, *what: Any) -> None:
        self.done.append(what)
        if self.failure is not None:
            raise self.failure

    def act(self, verb: str, call_id: str, *more: Any) -> None:
        record = self.records.get(call_id)
        if (record is None or record.ended) and self.find(call_id) is None:
            raise KeyError(call_id)
        self.do(verb, call_id, *more)

    # FlowManager

    number_type = "tel"

    def run_on(self, leg: Any, program: Program, principal: Any, /) -> None:
        self.do("run_on", leg, program, principal)

    # FlowStreams

    async def stream_start(self, leg: Any, wanted: Any, _: Any, /) -> Any:
        self.do("stream_start", leg, wanted)
        return self._stream_of(wanted.name)

    async def stream_stop(self, leg: Any, wanted: Any, /) -> None:
        self.do("stream_stop", leg, wanted)

    def started(self, _: Any, /) -> list[Any]:
        return [("ears", "wss://app.example/x", self._stream_of("ears"))]

    def _stream_of(self, name: str) -> Any:
        return SimpleNamespace(dialect=Twilio(rng=random.Random(name)))

    # CallControl

    def leg(self, call_id: str, _: str, /) -> str:
        if self.find(call_id) is None:
            raise KeyError(call_id)
        return call_id

    async def redirect(self, call_id: str, begin: Any, /) -> None:
        self.act("redirect", call_id)
        begin(call_id)

    async def hangup(self, call_id: str, /) -> None:
        self.act("hangup", call_id)
        if not self.lasting:
            self.end(call_id)

    async def hold(self, call_id: str, /) -> None:
        self.act("hold", call_id)
        self.records.update(call_id, on_hold=True)

    async def unhold(self, call_id: str, /) -> None:
        self.act("unhold", call_id)
        self.records.update(call_id, on_hold=False)

    async def mute(self, call_id: str, direction: str, /) -> None:
        self.act("mute", call_id, direction)
        self.records.update(call_id, mute_direction=direction)

    async def unmute(self, call_id: str, direction: str, /) -> None:
        self.act("unmute", call_id, direction)
        self.records.update(call_id, mute_direction="")

    async def silence(self, call_id: str, on: bool, /) -> None:
        self.act("silence", call_id, on)

    async def moh(self, call_id: str, on: bool, /) -> None:
        self.act("moh", call_id, on)

    async def send_digits(
        self, call_id: str, digits: str, /, *, duration_ms: int | None = None, between_ms: int | None = None
    ) -> None:
        self.act("dtmf", call_id, digits, duration_ms, between_ms)

    async def play(self, call_id: str, pcm: bytes, rate: int, /, *, direction: str = "out") -> None:
        self.act("play", call_id, len(pcm), rate, direction)

    async def transfer(self, call_id: str, destination: Address, /, *, token: str = "") -> str:  # noqa: ARG002
        if not destination.type:
            raise ValueError("unknown or missing type; expected tel, sip, extension or conference")
        self.act("transfer", call_id, destination)
        return self.add(f"transfer-{next(self._numbers)}", "dialing", master_call_id=call_id).id

    async def recording_start(self, call_id: str, /, **how: Any) -> Recording:
        self.act("recording_start", call_id, how)
        self.records.update(call_id, recording_id="r1", recording_ids=["r1"])
        return RECORDINGS["r1"]

    async def recording_stop(self, call_id: str, /) -> Recording:
        self.act("recording_stop", call_id)
        record = self.records.get(call_id)
        if record is None or not record.recording_id:
            raise KeyError(call_id)
        self.records.update(call_id, recording_id="")
        return RECORDINGS["r1"]

    # OutboundCalls and FlowManager

    async def parse_request(self, load: Callable[[], Any], /) -> Program:
        return await parse_in_thread(load, lambda program: check_possible(program, ActionSettings.of(Config())))

    async def originate(
        self, request: OriginateRequest, program: Program | None = None, variables: Any = None, /
    ) -> OriginatedCalls:
        if request.flow_id and request.flow_id not in [flow.id for flow in FLOWS]:
            raise LookupError(f"no flow has the id {request.flow_id[:64]!r}")
        for index, destination in enumerate(request.destinations):
            if destination.type == "conference":
                raise ValueError(f"destinations[{index}]: conference destinations cannot be dialed here")
        self.do("originate", request, program, variables)
        calls = [self.add(f"placed-{next(self._numbers)}", "dialing") for _ in request.destinations]
        if request.answer_method == "none":
            return OriginatedCalls(calls)
        group = Groupcall(
            f"group-{next(self._numbers)}", [each.id for each in calls], request.answer_method, request.ring_method,
            source=request.source, destinations=request.destinations,
        )  # fmt: skip
        self.groups[group.id] = group
        return OriginatedCalls(calls, [group])

    async def dial_connect(self, number: str, /, **more: Any) -> CallRecord:
        if not number.lstrip("+").isdigit():
            raise ValueError(f"call.no: target {number[:80]!r} cannot be dialed")
        self.do("dial_connect", number, more)
        return self.add(f"placed-{next(self._numbers)}", "dialing")

    def group(self, group_id: str, /) -> Groupcall | None:
        return self.groups.get(group_id)

    # The rest

    async def say(self, utterance: Utterance, /) -> Sound:
        self.do("say", utterance)
        if utterance.voice == "nobody":
            raise SpeechFailed("there is no such voice")
        return Sound(bytes(320), 8000)

    async def continue_in_dialplan(self, channel_id: str, context: str, extension: str, priority: int) -> None:
        self.do("continue_in_dialplan", channel_id, context, extension, priority)

    async def accept(
        self,
        request: web.Request,
        call: Call,
        party: Party,
        options: MediaStreamOptions,
        principal: Principal,
        _: object,
        /,
    ) -> web.StreamResponse:
        if self.failure is not None:
            raise self.failure
        assert principal.address == "127.0.0.1"
        self.accepted.append((call.id, party.id, options))
        return await self._upgrade(request)

    async def accept_in_conference(self, request: web.Request, *_: object) -> web.StreamResponse:
        return await self._upgrade(request)

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        if not socket.can_prepare(request):
            return web.Response()
        await socket.prepare(request)
        await socket.close()
        return socket

    def plain_backend(self, **more: Any) -> Backend:
        """Return it without call control and conferences."""
        stand_in: Any = self
        plain = Backend(
            calls=stand_in,
            streams=lambda: self.open_streams,
            accept_stream=self.accept,
            counters=Counters(frames_from_asterisk=5),
            ari_connected=lambda: self.connected,
            listening=lambda: self.listening,
            ari_trouble=lambda: None if self.connected else "cannot connect to 10.0.0.7:8088",
            ari_undecodable=lambda: 3,
        )
        return replace(plain, **more)

    def backend(self, **more: Any) -> Backend:
        """Return the whole of it."""
        stand_in: Any = self
        sounds: Any = Sounds()
        recordings: Any = FewRecordings(self)
        sensitive: Any = SensitiveCalls(self)
        conferences: Any = FewConferences(self)
        whole = self.plain_backend(
            calling=CallServices(
                records=self.records,
                call_control=stand_in,
                outbound_calls=stand_in,
                flow_manager=stand_in,
                speech=stand_in,
                sounds=sounds,
                recordings=recordings,
                sensitive=sensitive,
                flows=lambda: FLOWS,
                streams=stand_in,
                voxology=VoxologyConfig.model_validate({"flow": "greeting", "api_key": VOXOLOGY_KEY}),
            ),
            conferences=ConferenceServices(conferences, self.accept_in_conference),
        )
        return replace(whole, **more)


STREAM: Mapping[str, object] = {
    "id": "s1", "call_id": "c1", "channel_id": "c1", "principal": "crm", "dialect": "voipbin", "started_by": "client",
    "direction_listen": "both", "live": True, "sensitive": False, "opened_at": NOW, "queued_ms": 0, "unsent_ms": 0,
    "dropped_to_application_ms": 0, "dropped_from_application_ms": 0, "discarded_messages": 0,
}  # fmt: skip


TWILIO = TwilioConfig.model_validate(
    {
        "account_sid": "AC" + "0123456789abcdef" * 2,
        "auth_token": "a-secret:of-sixteen",
        "dial_context": "from-agents",
        "originate": True,
    }
)
VENDORS = Vendors.model_validate(
    {
        "telnyx": {"api_key": "KEY-of-sixteen-characters"},
        "plivo": {"auth_id": "MAXXXXXXXXXXXXXXXXXX", "auth_token": "a-token:of-sixteen"},
    }
)
"""Credentials of other vendors' requests."""
GONE = AriError(404, "GET", "recordings/stored/r1/file", "Recording not found")
