"""Test a program of yours with real calls: an Asterisk, a softphone and asterisk-bridge, started by pytest.

    pip install 'asterisk-bridge[testing]'
    pytest test_agent.py --asyncio-mode=auto \\
        -o asyncio_default_fixture_loop_scope=session -o asyncio_default_test_loop_scope=session

The agent here sends back what it receives. Replace it with yours: anything that listens on a WebSocket.
"""

from __future__ import annotations

import json

from websockets.asyncio.server import ServerConnection, serve

from bridge.testing import judge, modem
from bridge.testing.phone import RATE
from bridge.testing.plugin import Phones, StartBridge


async def agent(connection: ServerConnection) -> None:
    """Send the caller's audio back, in the format of Twilio Media Streams."""
    async for text in connection:
        message = json.loads(text)
        if message["event"] == "media":
            await connection.send(json.dumps({key: message[key] for key in ("event", "streamSid", "media")}))


async def test_the_agent_answers(phones: Phones, start_bridge: StartBridge) -> None:
    async with serve(agent, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        bridge = await start_bridge(dialplan=[{"id": "agent", "match": "750", "url": url, "dialect": "twilio"}])
        (phone,) = await phones("1001")
        sentence = "All good things 0123456789"
        # A modem's signal: one frame of 20 ms that is lost, doubled or damaged changes the text. It is sent five times,
        # because a busy machine may lose one.
        await phone.call("750", play=modem.modulate(f"{sentence} " * 5, RATE, lead_s=1.0))
        await phone.answered()
        await phone.heard_until(lambda audio: sentence in modem.demodulate(audio, RATE))
        _, calls = await bridge.request("GET", "/v1.0/calls")
        assert [call["status"] for call in calls["result"]] == ["progressing"]
        await phone.hangup()


async def test_a_flow_rings_a_phone(phones: Phones, start_bridge: StartBridge) -> None:
    bridge = await start_bridge()
    (phone,) = await phones("1001")
    phone.play_next(judge.silence(1, RATE))
    talk = {"type": "talk", "option": {"text": "Your order has been shipped", "language": "en-US"}}
    body = {"destinations": [{"type": "extension", "target": "1001"}], "actions": [talk]}
    status, _ = await bridge.request("POST", "/v1.0/calls", body)
    assert status == 200
    heard = await phone.heard()  # the call ends with the flow
    assert judge.rms(heard) > 300
