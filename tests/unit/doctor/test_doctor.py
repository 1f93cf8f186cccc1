"""The doctor's rules, its detection of the tone, and its findings without a PBX."""

from __future__ import annotations

import asyncio
import io
import random
import struct
from pathlib import Path

import pytest

from bridge.ari.versions import FEATURES, WIDE_AUDIO, bugs_of, lacks, parse_version
from bridge.config import Config
from bridge.doctor import cluster, machine, pbx
from bridge.doctor.loopback import FORMAT, TONE_HZ, has_tone, tone
from bridge.doctor.report import Report
from bridge.doctor.rules import NEEDED_MODULES, missing_modules


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("22.10.1+dfsg+~cs6.17.60671434-1", (22, 10)),
        ("22.7.0-rc1", (22, 7)),
        ("certified/20.7-cert3", (20, 7)),
        ("GIT-master-abcdef", None),
        ("", None),
    ],
)
def test_versions(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        ((22, 10), 0),
        ((22, 9), 1),
        ((22, 7), 2),
        ((22, 6), 2),
        ((22, 3), 5),
        ((21, 12), 2),
        ((21, 9), 3),
        ((20, 20), 0),
        ((20, 16), 2),
        ((23, 4), 0),
        ((23, 0), 2),
        ((24, 0), 0),
        ((18, 26), len(FEATURES)),
    ],
)
def test_what_a_version_lacks(version: tuple[int, int], missing: int) -> None:
    assert len(lacks(version)) == missing


@pytest.mark.parametrize(
    ("text", "carried"),
    [
        *(("18.26.4", False), ("20.16.0", False), ("20.17.0", True), ("21.11.0", False), ("21.12.0", True)),
        *(("22.5.2", False), ("22.7.0", True), ("23.0.0", False), ("23.1.0", True), ("24.0.0", True)),
        *(("certified/20.7-cert11", False), ("certified/22.8-cert4", True), ("19.8.1", False), ("GIT-master", False)),
    ],
)
def test_which_versions_carry_audio_above_8_khz(text: str, carried: bool) -> None:
    assert WIDE_AUDIO.is_in(parse_version(text)) == carried


@pytest.mark.parametrize(
    ("version", "bugs"),
    [
        ((18, 26), 0),
        ((20, 13), 0),
        ((20, 14), 1),
        ((20, 17), 0),
        ((21, 12), 1),
        ((22, 6), 1),
        ((22, 10), 0),
        ((22, 11), 1),
    ],
)
def test_bugs_of_versions(version: tuple[int, int], bugs: int) -> None:
    assert len(bugs_of(version)) == bugs


@pytest.mark.parametrize(
    ("text", "verdict", "words"),
    [
        ("22.10.1", "ok", "Asterisk 22.10.1"),
        ("22.9.0", "warn", "lacks: unknown AudioSocket messages from Asterisk are skipped"),
        ("22.11.0", "warn", "Asterisk 22.11.0: calls that receive audio by a whisper"),
        ("22.12.0", "ok", "Asterisk 22.12.0"),
        ("GIT-master-abcdef", "warn", "not understood"),
    ],
)
def test_a_version_is_reported_with_what_it_lacks_and_its_open_bugs(text: str, verdict: str, words: str) -> None:
    report = Report(io.StringIO())
    pbx.check_version(report, text)
    (finding,) = report.findings
    assert (finding.verdict, bool(finding.advice)) == (verdict, verdict == "warn")
    assert words in finding.text


def test_modules() -> None:
    running = {f"{name}.so" for name in NEEDED_MODULES} - {"chan_audiosocket.so"}
    assert missing_modules(running, NEEDED_MODULES) == ["chan_audiosocket (audio)"]


def frames(pcm: bytes) -> list[bytes]:
    return [pcm[i : i + FORMAT.frame_bytes] for i in range(0, len(pcm), FORMAT.frame_bytes)]


def test_the_tone_is_heard_in_every_frame() -> None:
    assert all(has_tone(frame, TONE_HZ, FORMAT.rate) for frame in frames(tone(TONE_HZ, 100, FORMAT.rate)))


def test_nothing_else_is_taken_for_the_tone() -> None:
    noise = random.Random(1)
    samples = [noise.randint(-20000, 20000) for _ in range(800)]
    others = [FORMAT.silence(FORMAT.frame_bytes), b"", b"\x01", *frames(struct.pack("<800h", *samples))]
    others += frames(tone(440, 100, FORMAT.rate)) + frames(tone(1400, 100, FORMAT.rate))
    assert not any(has_tone(frame, TONE_HZ, FORMAT.rate) for frame in others)


def test_the_exit_code_follows_failures_only() -> None:
    output = io.StringIO()
    report = Report(output)
    report.ok("a", "fine")
    report.warn("b", "odd", "look")
    assert report.exit_code == 0
    report.fail("c", "broken", "repair it")
    assert report.exit_code == 1
    report.summary()
    lines = output.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "warn", "->", "FAIL", "->", "1"]


def verdicts(report: Report) -> list[str]:
    return [finding.verdict for finding in report.findings]


def test_a_configuration_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.touch()
    path.chmod(0o644)
    config = Config.model_validate({"ari": {"user": "u", "password": "p"}})
    report = Report(io.StringIO())
    machine.check_configuration(report, config, path)
    assert verdicts(report) == ["ok", "warn"]
    assert "chmod 640" in report.findings[-1].advice


def test_an_asterisk_elsewhere_is_not_told_to_dial_loopback() -> None:
    config = Config.model_validate({"ari": {"url": "https://pbx.example:8089", "user": "u", "password": "p"}})
    report = Report(io.StringIO())
    machine.check_configuration(report, config, None)
    assert verdicts(report) == ["ok", "warn"]
    assert "advertised_host" in report.findings[-1].advice


@pytest.mark.parametrize(
    ("queued_ms", "message_bytes", "warned"),
    [(600_000, 16 << 20, False), (5000, 16 << 20, True), (5000, 160_000, False), (5000, 160_016, True)],
)
def test_a_queue_that_one_message_exceeds_several_times(queued_ms: int, message_bytes: int, warned: bool) -> None:
    config = Config.model_validate(
        {"media": {"max_queued_ms": queued_ms}, "http": {"max_message_bytes": message_bytes}}
    )
    report = Report(io.StringIO())
    machine.check_configuration(report, config, None)
    advice = [finding.advice for finding in report.findings if "max_queued_ms" in finding.advice]
    assert advice == (["set http.max_message_bytes to at most 160000, or raise media.max_queued_ms"] if warned else [])


@pytest.mark.parametrize("writable", [True, False])
def test_a_state_file_that_cannot_be_written(tmp_path: Path, writable: bool) -> None:
    folder = tmp_path / "state"
    folder.touch() if not writable else folder.mkdir()
    config = Config.model_validate({"streams": {"state_file": str(folder / "state.sqlite3")}})
    report = Report(io.StringIO())
    machine.check_state_file(report, config)
    (finding,) = report.findings
    assert (finding.name, finding.verdict) == ("state file", "ok" if writable else "warn")
    assert str(folder) in finding.text
    assert ("StateDirectory=" in finding.advice) is not writable


async def test_a_port_that_something_else_holds() -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = Config.model_validate({"audiosocket": {"bind_port": port}})
    report = Report(io.StringIO())
    try:
        assert not await machine.check_audiosocket_port(report, config, bridge_runs=False)
        assert not await machine.check_audiosocket_port(report, config, bridge_runs=True)
    finally:
        server.close()
    assert verdicts(report) == ["FAIL", "ok"]


async def test_free_ports() -> None:
    config = Config.model_validate({"http": {"port": 0}, "audiosocket": {"bind_port": 0}})
    report = Report(io.StringIO())
    assert not await machine.check_http_port(report, config)
    assert await machine.check_audiosocket_port(report, config, bridge_runs=False)
    assert verdicts(report) == ["ok", "ok"]


@pytest.mark.parametrize(
    ("calling", "warned"),
    [
        ({"tel_endpoint": "PJSIP/{number}@trunk-a", "sip_endpoint": "PJSIP/trunk-a/{uri}"}, "outbound_auth"),
        ({"tel_endpoint": "PJSIP/trunk-a/{number}", "sip_endpoint": "PJSIP/trunk-a/{uri}"}, "outbound_auth"),
        ({"tel_endpoint": "PJSIP/{number}@trunk-a", "sip_endpoint": "PJSIP/sip-out/{uri}", "sip_hosts": ["a"]}, ""),
        ({"sip_endpoint": "PJSIP/sip-out/{uri}"}, "calling.sip_hosts is empty"),
        ({"sip_endpoint": "PJSIP/sip-out/{uri}", "sip_hosts": ["*"]}, "any host"),
        ({"tel_endpoint": "Local/{number}@out", "sip_endpoint": "Local/{uri}@out", "sip_hosts": ["a"]}, ""),
    ],
)
def test_the_trunks_password_is_not_for_every_sip_host(calling: dict[str, object], warned: str) -> None:
    output = io.StringIO()
    machine.check_configuration(Report(output), Config.model_validate({"calling": calling}), None)
    assert (warned in output.getvalue()) if warned else ("calling" not in output.getvalue())


@pytest.mark.parametrize(
    ("store", "warned"),
    [
        ("redis://:confidential@store.example.org:6379/0", True),
        ("redis://10.0.0.5", True),
        ("rediss://store.example.org", False),
        ("redis://127.0.0.1:6379", False),
        ("redis://[::1]", False),
        ("", False),
    ],
)
async def test_a_store_without_tls_beyond_loopback(store: str, warned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError("not in this test")

    monkeypatch.setattr(cluster, "ClusterStore", unreachable)
    out = io.StringIO()
    await cluster.check(Report(out), Config.model_validate({"cluster": {"store": store}}))
    assert ("without TLS" in out.getvalue()) is warned
    assert "confidential" not in out.getvalue()
