"""Stand-ins for the services that actions use: speech, recordings, conferences, streams, servers.

Each records what was requested, with the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

from bridge.access import Principal
from bridge.audio.sound import Sound
from bridge.dialects.base import CallInfo
from bridge.flows.web import ServerResponse, WebFailed
from bridge.speech.engine import SpeechFailed, Utterance
from bridge.speech.fetch import SoundUnavailable
from bridge.tls import Trust
from tests.fakes.virtual_time import now, pass_time
from tests.unit.flows.fake_legs import FakeLeg

RATE = 8000
SAID_S = 2.0
"""Duration of everything that is spoken."""


class FakeSpeech:
    def __init__(self) -> None:
        self.said: list[Utterance] = []

    async def say(self, utterance: Utterance) -> Sound:
        if utterance.text == "unspeakable":
            raise SpeechFailed("it cannot be said")
        self.said.append(utterance)
        return Sound(b"s" * int(RATE * SAID_S) * 2, RATE)


class FakeSounds:
    async def get(self, url: str, *, configured: bool = False) -> Sound:  # noqa: ARG002
        if "missing" in url:
            raise SoundUnavailable(f"{url} is not there")
        return Sound(url[-1:].encode() * RATE * 2, RATE)  # one second


class FakeRecording:
    def __init__(self, number: int, call_id: str = "", direction: str = "both") -> None:
        self.call_id, self.direction, self.tm_start = call_id, direction, now()
        self.id = f"recording-{number}"
        self.format = "wav"
        self.channel_id, self.principal = call_id, "crm"
        self.duration_s = 3.2
        self.trouble = ""
        self.over = asyncio.Event()

    @property
    def status(self) -> str:
        return "ended" if self.over.is_set() else "recording"

    async def finished(self) -> None:
        await self.over.wait()


class FakeRecordings:
    def __init__(self) -> None:
        self.made: list[FakeRecording] = []
        self.principals: list[Principal] = []
        self.did: list[tuple[Any, ...]] = []

    async def start(self, channel_id: str, *, principal: Principal, **how: Any) -> FakeRecording:
        self.principals.append(principal)
        self.did.append(("start", channel_id, how))
        self.made.append(FakeRecording(len(self.made) + 1, channel_id, how["direction"]))
        return self.made[-1]

    def get(self, recording_id: str) -> FakeRecording:
        return next(each for each in self.made if each.id == recording_id)

    async def stop(self, recording_id: str) -> FakeRecording:
        self.did.append(("stop", recording_id))
        found = next((each for each in self.made if each.id == recording_id), None)
        if found is None or found.over.is_set():
            raise KeyError(recording_id)
        found.over.set()
        return found


class FakeConferences:
    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []
        self.members: dict[str, int] = {}
        self.joined_s = 5.0

    def get(self, conference_id: str) -> Any:
        if conference_id not in self.members:
            return None
        return type("Conference", (), {"participants": (None,) * self.members[conference_id]})()

    async def join(self, leg: FakeLeg, conference_id: str, *, muted: bool = False, create: bool = False) -> str:
        self.did.append(("join", leg.id, conference_id, create, muted))
        await pass_time(self.joined_s)
        return "kicked"

    async def delete(self, conference_id: str) -> None:
        self.did.append(("delete", conference_id))


class FakeStream:
    agent = None

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def wait(self) -> None:
        await self.ended.wait()


class FakeStreams:
    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []
        self.started: list[FakeStream] = []
        self.principals: list[Principal] = []

    async def facts_of(self, leg: FakeLeg) -> CallInfo:
        return CallInfo(leg.id, "inbound", "+49 30/111", "750", "../750")

    async def external_media_start(self, leg: FakeLeg, wanted: Any, principal: Principal) -> Any:  # noqa: ARG002
        self.principals.append(principal)
        self.did.append((now(), "external_media_start", wanted))
        return SimpleNamespace(ended=False)

    async def external_media_stop(self, leg: FakeLeg) -> None:  # noqa: ARG002
        self.did.append((now(), "external_media_stop"))

    async def external_media_over(self, leg: FakeLeg) -> None:
        pass

    async def stream_start(
        self,
        leg: FakeLeg,  # noqa: ARG002
        wanted: Any,
        principal: Principal,
        label: str = "",  # noqa: ARG002
    ) -> FakeStream:
        self.principals.append(principal)
        self.did.append((now(), "stream_start", wanted))
        self.started.append(FakeStream())
        return self.started[-1]

    async def stream_stop(self, leg: FakeLeg, wanted: Any) -> None:  # noqa: ARG002
        self.did.append((now(), "stream_stop", wanted))

    def transfer_joined(self, leg: FakeLeg, other: FakeLeg) -> None:  # noqa: ARG002
        self.did.append((now(), "transfer_joined", other.id))

    def transfer_left(self, leg: FakeLeg) -> None:  # noqa: ARG002
        self.did.append((now(), "transfer_left"))

    async def stop(self, leg: FakeLeg, reason: str = "") -> None:  # noqa: ARG002
        self.did.append((now(), "stop"))


class FakeSensitive:
    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []
        self.covered: set[str] = set()
        """Channels of calls in sensitive mode."""

    def covers(self, identity: str) -> bool:
        return identity in self.covered

    async def start(self, identity: str, timeout_s: float = 0) -> None:
        if identity == "unknown":
            raise KeyError(identity)
        self.did.append(("start", identity, timeout_s))

    async def stop(self, identity: str) -> None:
        self.did.append(("stop", identity))


class FakeEchoes:
    def __init__(self) -> None:
        self.echoed: list[float] = []

    async def echo(self, leg: FakeLeg, seconds: float) -> None:  # noqa: ARG002
        self.echoed.append(seconds)
        await pass_time(seconds)


class FakeWeb:
    """Answers as in ``answers`` for a URL: an `ServerResponse`, or an exception."""

    def __init__(self) -> None:
        self.answers: dict[str, ServerResponse | Exception | Callable[[], Awaitable[ServerResponse]]] = {}
        self.asked: list[tuple[str, str, bytes | None, Mapping[str, str]]] = []
        self.configured: list[bool] = []
        self.trusts: list[Trust] = []
        self.signed_for: list[str] = []

    async def ask(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Any = None,
        secrets: Any = None,
        trust: Trust | None = None,
        configured: bool = False,
        flow_id: str = "",
    ) -> ServerResponse:
        self.signed_for.append(flow_id)
        self.configured.append(configured)
        self.trusts.append(trust or Trust())
        self.asked.append((method, url, body, {**(headers or {}), **(secrets or {})}))
        answer = self.answers.get(url, WebFailed("nobody there"))
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, ServerResponse) else await answer()
