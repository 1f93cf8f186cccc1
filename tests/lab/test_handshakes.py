"""What an application gets before the first audio: the request of the handshake, and the facts in its first message."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.outbound.headers import USER_AGENT
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, sends

TENANT = "../ACME&S%C3%B6hne?x=1#y"
ENCODED = "..%2FACME%26S%25C3%25B6hne%3Fx%3D1%23y"


async def test_templates_and_variables_of_a_real_call_reach_the_application(
    lab: Lab, phones: Phones, tmp_path: Path
) -> None:
    """A variable with the characters of a path and a query changes neither."""
    credential = tmp_path / "credential"
    (alice,) = await phones("1001")
    await lab.cli(f"dialplan add extension 772,1,Set(TENANT={TENANT}) into from-internal")
    await lab.cli(f"dialplan add extension 772,2,Stasis({lab.ari_app},agent) into from-internal")
    async with open_sink() as sink:
        route = {
            "id": "agent",
            "match": "agent",
            "url": f"{sink.url}/{{TENANT}}/{{caller}}?call={{call_id}}&did={{did}}",
            "dialect": "twilio",
            "auth_key": "Authorization",
            "auth_value_file": str(credential),
            "extra_headers": {"X-Tenant": "{TENANT}", "X-Number": "{callee}"},
            "subprotocols": ["v2.agent.example"],
            "channel_variables": ["TENANT", "UNSET"],
            "options": {"parameters": {"greeting": "Hello {caller} of {TENANT}"}},
            "then": "hangup",
        }
        async with pushing(lab, dialplan=[route]) as target:
            for number in range(2):
                credential.write_text(f"Bearer {number}\n")
                await alice.call("772", play=judge.silence(1, 8000))
                await alice.answered()
                received = (await sink.connected(number + 1))[number]
                await sends(alice, 0.5)
                call_id = (await target.call_from("1001"))["id"]
                path, _, query = received.path.partition("?")
                assert path == f"/media/{ENCODED}/1001"
                assert query == f"call={call_id}&did="
                assert received.headers["Authorization"] == f"Bearer {number}"
                assert received.headers["X-Tenant"] == ENCODED
                assert received.headers["X-Number"] == "772"
                assert received.headers["User-Agent"] == USER_AGENT
                assert received.headers["Sec-WebSocket-Protocol"] == "v2.agent.example"
                parameters = received.messages[1]["start"]["customParameters"]
                assert parameters["TENANT"] == TENANT
                assert "UNSET" not in parameters
                assert parameters["greeting"] == f"Hello 1001 of {TENANT}"
                await received.socket.close()
                await alice.ended(PATIENCE_S)
                await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
            await target.nothing_left()
