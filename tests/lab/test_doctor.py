"""The doctor on a real Asterisk: silent about what is well, right about what is not, and it leaves nothing behind."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from pydantic import SecretStr

from bridge import doctor
from bridge.app.application import Application
from bridge.ari.client import AriClient
from bridge.config import Config, FlowConfig
from bridge.doctor.dialplan import ENTRIES
from bridge.doctor.report import Finding, Report
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import configuration
from tests.lab.waiting import PATIENCE_S

APP = "ailing"


async def examine(config: Config) -> tuple[int, dict[str, Finding]]:
    """Return the exit code, and the last finding of each name that is not ``ok``; not how busy this machine is."""
    report = Report(io.StringIO())
    code = await doctor.run(config, None, report)
    findings = {finding.name: finding for finding in report.findings if finding.verdict != "ok"}
    if "tick" in findings:
        assert findings.pop("tick").verdict == "warn"
    if code == 0:
        assert report.findings[-1].name == "wide audio", "the README shows it as the last check"
    return code, findings


async def knows_the_pbx(bridge: Application) -> None:
    """Wait until a bridge has ARI, and has seen what is on the PBX."""
    async with asyncio.timeout(PATIENCE_S):
        while not bridge.synchronized:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def ari(lab: Lab) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": aiohttp.encode_basic_auth(lab.ari_user, lab.ari_password)}
    async with aiohttp.ClientSession(f"{lab.ari_url}/ari/", headers=headers) as session:
        yield session


@pytest.fixture
async def config(lab: Lab) -> AsyncIterator[Config]:
    """A configuration that is in order; afterwards nothing of the doctor's may be on the PBX."""
    yield configuration(lab, app=APP)
    async with ari(lab) as session, asyncio.timeout(PATIENCE_S):
        for what in ("channels", "bridges", "applications"):
            while True:  # Asterisk removes an application shortly after its connection is gone
                async with session.get(what) as response:
                    left = [item.get("id") or item["name"] for item in await response.json()]
                if not [name for name in left if APP in name]:
                    break
                await asyncio.sleep(0.1)


async def test_all_is_well(config: Config) -> None:
    assert await examine(config) == (0, {})


async def test_the_bridge_may_be_running(config: Config, lab: Lab) -> None:
    config = configuration(lab, app=APP)
    async with Application(config) as bridge:
        await knows_the_pbx(bridge)
        fixed = config.model_copy(
            update={
                "http": config.http.model_copy(update={"port": bridge.http_port}),
                "audiosocket": config.audiosocket.model_copy(update={"bind_port": bridge.audiosocket_port}),
            }
        )
        code, findings = await examine(fixed)
        assert bridge.counters.legs_opened == 0
    assert (code, findings) == (0, {})


async def test_another_program_uses_the_application(config: Config, lab: Lab) -> None:
    async with AriClient(lab.ari_url, lab.ari_user, lab.ari_password, APP) as rival:
        code, findings = await examine(config)
        assert rival.connected
    assert code == 0
    assert list(findings) == ["Stasis application"]
    assert "ari.app" in findings["Stasis application"].advice


async def test_another_program_has_taken_the_application_of_the_running_bridge(config: Config, lab: Lab) -> None:
    async with Application(config) as bridge:
        fixed = config.model_copy(update={"http": config.http.model_copy(update={"port": bridge.http_port})})
        await knows_the_pbx(bridge)
        async with AriClient(lab.ari_url, lab.ari_user, lab.ari_password, APP):
            async with asyncio.timeout(PATIENCE_S):
                while bridge.client.connected:
                    await asyncio.sleep(0.02)
            _, findings = await examine(fixed)
    assert "ari.app" in findings["Stasis application"].advice


async def test_entries_of_the_dialplan_are_missing(config: Config) -> None:
    empty = config.model_copy(update={"calling": config.calling.model_copy(update={"context": "no-such-context"})})
    code, findings = await examine(empty)
    assert code == 0
    assert list(findings) == ["dialplan"]
    assert all(entry in findings["dialplan"].text for entry in ENTRIES)
    flow = FlowConfig.model_validate({"id": "f", "match": ["7"], "actions": [{"type": "amd"}]})
    code, findings = await examine(empty.model_copy(update={"flows": (flow,)}))
    assert code == 1
    assert "configured flows use amd, back" in findings["dialplan"].text


async def test_asterisk_is_down(config: Config) -> None:
    code, findings = await examine(
        config.model_copy(update={"ari": config.ari.model_copy(update={"url": "http://127.0.0.1:9"})})
    )
    assert code == 1
    assert list(findings) == ["ARI"]
    assert "check that Asterisk runs" in findings["ARI"].advice


async def test_the_password_is_wrong(config: Config) -> None:
    wrong = config.ari.model_copy(update={"password": SecretStr("not-the-password")})
    code, findings = await examine(config.model_copy(update={"ari": wrong}))
    assert code == 1
    assert list(findings) == ["ARI credentials"]
    assert "not-the-password" not in str(findings)


@pytest.mark.parametrize("host", ["127.0.0.99", "no-such-host.invalid"])
async def test_asterisk_is_told_a_wrong_address(config: Config, host: str) -> None:
    wrong = config.audiosocket.model_copy(update={"advertised_host": host})
    code, findings = await examine(config.model_copy(update={"audiosocket": wrong}))
    assert code == 1
    assert list(findings) == ["loop-back call"]
    assert "advertised_host" in findings["loop-back call"].advice


async def test_a_module_is_missing(config: Config, lab: Lab) -> None:
    async with ari(lab) as session:
        async with session.delete("asterisk/modules/chan_audiosocket.so") as response:
            assert response.status == 204
        try:
            code, findings = await examine(config)
        finally:
            async with session.post("asterisk/modules/chan_audiosocket.so") as response:
                assert response.status == 204
    assert code == 1
    assert "chan_audiosocket" in findings["modules"].text
    assert "not made" in findings["loop-back call"].text
