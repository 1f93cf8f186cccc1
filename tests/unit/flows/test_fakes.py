"""The stand-ins of this folder take what the real classes take."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.conferences.conferences import Conferences
from bridge.control.legs import Leg, Legs, Partners
from bridge.control.originate import Originator, OutboundCall
from bridge.control.playback import Player, Players
from bridge.control.recorder import Recording
from bridge.control.recording import Recordings
from bridge.control.sensitive import SensitiveMode
from bridge.flows.echo import EchoService
from bridge.flows.web import Web
from bridge.speech.engine import Speech
from bridge.speech.fetch import SoundFetcher
from bridge.streams.flow_streams import FlowStreams
from bridge.streams.stream import Stream
from tests.unit.flows import fake_legs, fake_services

PAIRS: list[tuple[type, type]] = [
    (fake_legs.FakeLeg, Leg),
    (fake_legs.FakeLegs, Legs),
    (fake_legs.FakePartners, Partners),
    (fake_legs.FakePlayer, Player),
    (fake_legs.FakePlayers, Players),
    (fake_legs.FakeOriginator, Originator),
    (fake_legs.FakeOutboundCall, OutboundCall),
    (fake_services.FakeRecording, Recording),
    (fake_services.FakeRecordings, Recordings),
    (fake_services.FakeConferences, Conferences),
    (fake_services.FakeStreams, FlowStreams),
    (fake_services.FakeSensitive, SensitiveMode),
    (fake_services.FakeWeb, Web),
    (fake_services.FakeSpeech, Speech),
    (fake_services.FakeSounds, SoundFetcher),
    (fake_services.FakeEchoes, EchoService),
    (fake_services.FakeStream, Stream),
]
FOR_TESTS = {"note", "leave", "press"}
"""Methods by which tests drive a stand-in."""


def differences(fake: type, real: type) -> Iterator[str]:
    """Say which methods of a stand-in the real class does not have, or has with other parameters."""
    for name, method in inspect.getmembers(fake, inspect.isfunction):
        if name.startswith("_") or name in FOR_TESTS:
            continue
        original = getattr(real, name, None)
        if original is None:
            yield f"{real.__name__} has no {name}"
            continue
        if inspect.iscoroutinefunction(method) != inspect.iscoroutinefunction(original):
            yield f"{name} is awaited in one of them only"
        ours, theirs = inspect.signature(method).parameters, inspect.signature(original).parameters
        takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in ours.values())
        if not takes_all and list(ours) != list(theirs):
            yield f"{name} takes {list(ours)}, and the real one {list(theirs)}"
        unknown = [each for each in ours if each not in theirs and ours[each].kind is not inspect.Parameter.VAR_KEYWORD]
        if takes_all and unknown:
            yield f"{name}: the real one does not take {unknown}"


@pytest.mark.parametrize(("fake", "real"), PAIRS, ids=lambda each: each.__name__)
def test_a_stand_in_takes_what_the_real_one_takes(fake: type, real: type) -> None:
    assert list(differences(fake, real)) == []


def test_differences_are_found() -> None:
    class Real:
        async def awaited(self, one: int, two: int) -> None: ...

    class Fake:
        def awaited(self, one: int) -> None: ...

        def invented(self, **how: Any) -> None: ...

    assert len(list(differences(Fake, Real))) == 3
