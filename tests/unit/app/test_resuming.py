"""Calls of a previous run are taken up whatever happens to the connection meanwhile; the PBX is the fake one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.access import ANONYMOUS
from bridge.app.call_subsystem import CallSubsystem
from bridge.app.resuming import Resuming
from bridge.app.suspending import Suspending
from bridge.ari.model import Channel
from bridge.calls.journal import Journal
from bridge.config.restart import RestartConfig
from bridge.control.leg import Leg
from bridge.control.sensitive import SensitiveMode
from bridge.errors import AriError
from tests.fakes.virtual_time import settle
from tests.unit.control.house import House

BROKEN = AriError(503, "GET", "/recordings/live/r1", "Service Unavailable")


class Restarted(House):
    """A house whose previous run held a call, and had another one originated that did nothing of its own."""

    def __init__(self) -> None:
        super().__init__(claims=False)
        self.client.disconnect()
        self.held = self.pbx.call("1001", "750")
        self.idle = self.pbx.come("ab-bridge-00000000-call-00000001", "1002", state="Up").id
        self.pbx.run(self.idle, "Stasis", "bridge")
        self.client.connect()
        self.journal = Journal("not-written")
        self.journal.found = {
            "held": {self.held: {"ends_at": None}},
            "sensitive": {"c1": {"written": "by another version"}},
        }
        self.continued: list[str] = []
        self.failures: list[Exception] = []
        calling = SimpleNamespace(
            recordings=SimpleNamespace(resume=self._resume_recordings, settled=self._nothing),
            conferences=SimpleNamespace(resume=lambda _: None),
            outbound_calls=SimpleNamespace(hold_until=self._hold),
            status_callbacks=SimpleNamespace(resume=lambda _: None),
        )
        self.resuming = Resuming(
            self.journal,
            client=self.client,
            ids=self.ids,
            legs=self.legs,
            stasis=self.stasis,
            records=self.records,
            sensitive=cast(SensitiveMode, SimpleNamespace(resume=self._resume_sensitive)),
            calling=cast(CallSubsystem, calling),
            context="",
            principal_of=lambda _: ANONYMOUS,
        )

    def _resume_sensitive(self) -> None:
        raise KeyError("until")

    async def _resume_recordings(self, _: Any) -> None:
        if self.failures:
            raise self.failures.pop()

    async def _nothing(self) -> None:
        pass

    def _hold(self, leg: Leg, _: float | None) -> None:
        self.continued.append(leg.id)


async def test_what_asterisk_did_not_answer_is_asked_again_before_anything_is_swept() -> None:
    house = Restarted()
    house.failures = [BROKEN]
    with pytest.raises(AriError):
        await house.resuming.resume()
    assert house.continued == []
    await house.resuming.resume()
    assert house.continued == [house.held]
    assert house.idle not in house.pbx.channels
    await house.resuming.resume()
    assert house.continued == [house.held], "once"


async def test_calls_that_are_being_taken_up_are_also_if_the_connection_is_lost() -> None:
    house = Restarted()
    answered = house.pbx.gates["DELETE"] = asyncio.Event()
    resuming = asyncio.create_task(house.resuming.resume())
    await settle()
    assert house.continued == []
    resuming.cancel()  # as at the loss of the connection
    await settle()
    answered.set()
    await settle()
    assert house.continued == [house.held]
    await house.resuming.stop()


async def test_an_extension_gets_held_calls_too() -> None:
    house = House(claims=False)
    held = house.pbx.call("1001", "750")
    await settle()
    left: list[Channel] = []
    house.client.on_channel_event("StasisEnd", lambda channel, _: left.append(channel))
    suspending = Suspending(
        Journal(), RestartConfig(calls="600@from-internal"), client=house.client, legs=house.legs, stasis=house.stasis
    )
    assert await suspending.suspend()
    await settle()
    assert [channel.id for channel in left] == [held]
    assert house.pbx.channels[held].resource["dialplan"]["exten"] == "600"
    assert house.pbx.bridges == {}


async def test_callers_whom_a_model_had_on_hold_are_resumed() -> None:
    house = Restarted()
    house.journal.found |= {"on_hold": {house.held: {}, "has-ended": {}}}
    await house.resuming.resume()
    wanted = [f"DELETE /channels/{house.held}/{what}" for what in ("mute", "hold")]
    assert [request for request in house.pbx.requests if request in wanted] == wanted
    await house.resuming.stop()
