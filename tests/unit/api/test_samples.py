"""The stand-ins of the API's tests take what the real classes take."""

from __future__ import annotations

import inspect
from inspect import Parameter
from typing import Any

import pytest

from bridge.ari.resources import Channels
from bridge.calls.tracker import CallTracker
from bridge.cluster.cluster import Cluster
from bridge.conferences.conferences import Conferences
from bridge.control.call_control import CallControl
from bridge.control.outbound_calls import OutboundCalls
from bridge.control.recording import Recordings
from bridge.control.sensitive import SensitiveMode
from bridge.flows.manager import FlowManager
from bridge.speech.engine import Speech
from bridge.speech.fetch import SoundFetcher
from tests.unit.api.sample_cluster import FewBridges
from tests.unit.api.sample_parts import FewConferences, FewRecordings, SensitiveCalls, Sounds
from tests.unit.api.samples import Pbx

ACTS = ("hangup", "hold", "unhold", "mute", "unmute", "silence", "moh", "send_digits", "play", "transfer")
POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def difference(stand_in: Any, real: Any) -> str:
    """Return how the parameters of two methods differ; "": a call that suits one suits the other."""
    mine, its = (inspect.signature(each).parameters.values() for each in (stand_in, real))
    if not any(each.kind is Parameter.VAR_POSITIONAL for each in mine):
        needed = sum(each.kind in POSITIONAL and each.default is Parameter.empty for each in its)
        taken = sum(each.kind in POSITIONAL for each in mine)
        possible = sum(each.kind in POSITIONAL for each in its)
        if not needed <= taken <= possible:
            return f"{taken} arguments; the real one takes {needed} to {possible}"
    names = {each.name for each in its}
    unknown = {each.name for each in mine if each.kind is Parameter.KEYWORD_ONLY} - names
    return f"the real one has no {', '.join(sorted(unknown))}" if unknown else ""


@pytest.mark.parametrize(
    ("stand_in", "real", "names"),
    [
        (Pbx, CallTracker, ("find",)),
        (Pbx, CallControl, (*ACTS, "recording_start", "recording_stop")),
        (Pbx, OutboundCalls, ("group",)),
        (Pbx, FlowManager, ("originate", "dial_connect")),
        (Pbx, Speech, ("say",)),
        (Pbx, Channels, ("continue_in_dialplan",)),
        (Sounds, SoundFetcher, ("get",)),
        (FewRecordings, Recordings, ("list", "get", "read", "delete")),
        (SensitiveCalls, SensitiveMode, ("start", "stop")),
        (FewConferences, Conferences, ("get", "list", "create", "delete", "kick", "mute", "unmute")),
        (FewBridges, Cluster, ("nodes", "calls", "find")),
    ],
    ids=lambda value: value.__name__ if inspect.isclass(value) else "",
)
def test_a_stand_in_takes_what_the_real_class_takes(stand_in: type, real: type, names: tuple[str, ...]) -> None:
    found = {name: difference(getattr(stand_in, name), getattr(real, name)) for name in names}
    assert found == dict.fromkeys(names, "")


def test_the_check_itself_can_fail() -> None:
    async def real(one: int, two: int = 0, *, three: int = 0) -> int:
        return one + two + three

    assert "0 arguments" in difference(lambda: 0, real)
    assert "3 arguments" in difference(lambda _, __, ___: 0, real)
    assert "no four" in difference(lambda _, *, four: four, real)
    assert difference(lambda *_, **__: 0, real) == difference(lambda _, *, three: three, real) == ""
