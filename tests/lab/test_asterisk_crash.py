"""What applications receive, and what is logged, when Asterisk is killed and started again."""

from __future__ import annotations

import asyncio
import logging

import pytest

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing, synchronized
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, sends

RATE = 8000


def written_once(record: logging.LogRecord) -> bool:
    once = ("Asterisk was restarted", "events connection unavailable", "synchronization with Asterisk failed")
    return hasattr(record, "cause") or record.msg.startswith(once)


async def test_streams_end_because_asterisk_was_restarted_and_the_log_says_so_briefly(
    lab: Lab, phones: Phones, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    for phone in (alice, bob, carol):
        phone.play_next(judge.tone(700, 60, RATE))
    async with open_sink() as routed, open_sink() as observed:
        route = {"id": "agent", "match": "750", "url": routed.url, "dialect": "twilio", "then": "hangup"}
        subscriptions = [
            {"id": "one", "url": observed.url, "dialect": "yeastar", "extensions": ["1001"]},
            {"id": "two", "url": observed.url, "dialect": "twilio", "tracks": "both_tracks", "extensions": ["1001"]},
        ]
        async with pushing(lab, dialplan=[route], subscriptions=subscriptions) as target:
            await carol.call("750")
            await carol.answered()
            await alice.call("1002")
            await alice.answered()
            connections = [*await routed.connected(1), *await observed.connected(2)]
            await sends(alice, 1)
            caplog.clear()
            await lab.restart_asterisk()
            for connection in connections:
                await asyncio.wait_for(connection.ended.wait(), PATIENCE_S)
            await synchronized(target)
            ends = [(each.socket.close_code, each.socket.close_reason) for each in connections]
            assert ends == [(1011, "Asterisk was restarted")] * 3
            warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert any(record.msg.startswith("Asterisk was restarted") for record in warnings)
            # Those with a cause are written once and counted after that (`bridge.logs.Repeats`).
            assert not [record.getMessage() for record in warnings if not written_once(record)]
            causes = {(record.msg, getattr(record, "cause", None)) for record in warnings}
            assert len(causes) < 10, causes
    for phone in (alice, bob, carol):
        await phone.stop()
        await phone.start()
        phone.forget()
