"""The doctor's checks of this machine: the configuration, the ports, the clock that paces audio."""

from __future__ import annotations

import asyncio
import resource
import stat
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from bridge.audio.format import FRAME_MS, slin
from bridge.config import Config, host_and_port, is_loopback, is_wildcard
from bridge.config.streams import NOT_KEPT
from bridge.doctor.report import Report
from bridge.media.playout_clock import CATCH_UP_FRAMES
from bridge.outbound.headers import USER_AGENT
from bridge.speech.engine import Speech, SpeechFailed, Utterance
from bridge.streams.subscription_store import SubscriptionStore

TIMER_TICKS = 100
NARROW_RATE = 8000
"""The lowest sampling rate of audio, in Hz, at which a message of some size lasts longest."""
MESSAGE_FACTOR = 2
"""A message may be this many times as long as `media.max_queued_ms` before it is reported."""
LATE_MS = 10.0
"""A tick may be this late without audible effect: jitter buffers of phones hold at least twice as much."""


def check_configuration(report: Report, config: Config, path: Path | None) -> None:
    """Report settings that are valid but risky, or that cannot work with an Asterisk on another machine."""
    report.ok("configuration", f"{path or 'defaults and environment'}")
    if path and path.stat().st_mode & stat.S_IROTH and (config.http.tokens or config.ari.password.get_secret_value()):
        report.warn("configuration", f"{path} can be read by every user of this machine", f"chmod 640 {path}")
    if not is_loopback(config.http.host) and not config.http.tls_certificate:
        report.warn(
            "configuration",
            "tokens and audio cross the network unencrypted",
            "set http.tls_certificate and http.tls_key, or use a local TLS proxy and set http.host to 127.0.0.1",
        )
    _check_calling(report, config)
    _check_message_sizes(report, config)
    if not config.audiosocket.allowed and not config.audio_host:
        report.warn(
            "configuration",
            f"any address that reaches {config.audiosocket.bind_host} may connect to the AudioSocket port: ari.url"
            " is on loopback and does not show where Asterisk's audio comes from",
            "list Asterisk's networks in audiosocket.allowed",
        )
    ari = urlsplit(config.ari.url)
    if is_loopback(ari.hostname or ""):
        return
    if ari.scheme == "http":
        report.warn(
            "configuration",
            f"the ARI password is sent to {ari.hostname} unencrypted",
            "use https in ari.url unless that network is trusted",
        )
    audiosocket = config.audiosocket
    if is_loopback(audiosocket.advertised_host or audiosocket.bind_host):
        report.warn(
            "configuration",
            f"Asterisk is on {ari.hostname}, but delivers audio to {audiosocket.advertised_address(0)}",
            "set audiosocket.bind_host to an address of this machine (or 0.0.0.0), and audiosocket.advertised_host to"
            " the address by which Asterisk reaches it",
        )


def _check_message_sizes(report: Report, config: Config) -> None:
    """Report a limit of the queue that a single message exceeds several times: it is accepted as a whole."""
    most_bytes, queued_ms = config.http.max_message_bytes, config.media.max_queued_ms
    message_ms = slin(NARROW_RATE).duration_ms(most_bytes)
    if message_ms > MESSAGE_FACTOR * queued_ms:
        limit = MESSAGE_FACTOR * slin(NARROW_RATE).bytes_of(queued_ms)
        report.warn(
            "configuration",
            f"media.max_queued_ms lets {queued_ms / 1000:g} s of audio wait, but one message may hold"
            f" {message_ms / 1000:.0f} s at {NARROW_RATE} Hz (http.max_message_bytes = {most_bytes})",
            f"set http.max_message_bytes to at most {limit}, or raise media.max_queued_ms",
        )


def _check_calling(report: Report, config: Config) -> None:
    calling = config.calling
    shared = _trunk_of(calling.sip_endpoint)
    if shared and shared == _trunk_of(calling.tel_endpoint):
        report.warn(
            "calling",
            f"calls to SIP addresses use {shared}, as calls to numbers do: if it has an outbound_auth, Asterisk"
            " answers the challenge of any host that an address names",
            "name an endpoint without outbound_auth in calling.sip_endpoint",
        )
    if calling.sip_endpoint and not calling.sip_hosts:
        text = "calls to SIP addresses are rejected: calling.sip_hosts is empty"
        report.warn("calling", text, "list the allowed hosts")
    if calling.sip_endpoint and "*" in calling.sip_hosts:
        report.warn("calling", "calls to SIP addresses may go to any host", "list the hosts in calling.sip_hosts")


def _trunk_of(template: str) -> str:
    """Return the endpoint that calls use: ``trunk-a`` of ``PJSIP/{number}@trunk-a``; empty if there is none."""
    technology, _, rest = template.partition("/")
    if technology.lower() == "local":
        return ""
    user, at, endpoint = rest.partition("@")
    return endpoint if at and "{" in user else rest.partition("/")[0].partition("@")[0]


async def check_http_port(report: Report, config: Config) -> str:
    """Check that the HTTP port is free or used by a running instance.

    Args:
        report: receives the finding.
        config: the configuration.

    Returns:
        The state of a running instance's ARI connection: ``connected`` or ``disconnected``; "": none uses the port.
    """
    host, port = config.http.host, config.http.port
    where = host_and_port(host, port)
    problem = await bind_problem(host, port)
    if problem is None:
        report.ok("HTTP port", f"{where} is free" if port else "any free port")
        return ""
    ari = await _ari_of_bridge(config)
    if ari:
        report.ok("HTTP port", f"{where} is used by a running instance")
        return ari
    report.fail("HTTP port", f"{where}: {problem}", "stop the program that uses it, or change http.host or http.port")
    return ""


async def check_audiosocket_port(report: Report, config: Config, bridge_runs: bool) -> bool:
    """Check that the AudioSocket port is free and return whether it is; a running instance may use it."""
    host, port = config.audiosocket.bind_host, config.audiosocket.bind_port
    where = host_and_port(host, port)
    problem = await bind_problem(host, port)
    if problem is None:
        report.ok("AudioSocket port", f"{where} is free" if port else "any free port")
        return True
    if bridge_runs:
        report.ok("AudioSocket port", f"{where} is in use, presumably by the running instance")
    else:
        report.fail(
            "AudioSocket port",
            f"{where}: {problem}",
            "stop the program that uses it, or change audiosocket.bind_host or audiosocket.bind_port",
        )
    return False


def check_open_files(report: Report, config: Config) -> None:
    """Check that the process may open as many sockets as the configured streams need."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.open_files_needed
    text = f"{limit} may be open, media.max_streams and http.max_connections need up to {needed}"
    if limit != resource.RLIM_INFINITY and limit < needed:
        report.warn(
            "open files",
            text,
            f"raise the limit (ulimit -n {needed}) or lower media.max_streams or http.max_connections",
        )
    else:
        report.ok("open files", text)


def check_state_file(report: Report, config: Config) -> None:
    """Check that subscriptions created over HTTP can be stored."""
    path = config.streams.state_file
    trouble = SubscriptionStore(path).trouble
    if trouble is not None:
        report.warn(
            "state file",
            trouble,
            "without it, requests that create subscriptions return 503: run the doctor as asterisk-bridge's user, or"
            " set streams.state_file; a systemd unit needs StateDirectory=",
        )
    elif path in NOT_KEPT:
        report.ok("state file", "none: subscriptions over HTTP do not survive a restart")
    else:
        report.ok("state file", f"{path} is writable")


async def check_speech(report: Report, config: Config) -> None:
    """Check the text-to-speech program, under the limits that it has in a call."""
    command = config.speech.command
    if not command:
        report.ok("speech", "none: speech.command is empty")
        return
    try:
        sound = await Speech(config.speech).say(Utterance("one"))
    except SpeechFailed as problem:
        report.warn("speech", str(problem), "without it nothing can be spoken in calls; streams do not need it")
    else:
        report.ok("speech", f"{command[0]} works, at {sound.rate} Hz")


def check_outbound(report: Report, config: Config) -> None:
    """Report which outgoing connections are allowed."""
    outbound = config.outbound
    text = "special addresses are denied"
    if outbound.deny:
        text += f", and {', '.join(outbound.deny)}"
    if outbound.allow:
        text += f"; allowed: {', '.join(outbound.allow)}"
    report.ok("outbound", text)


async def check_timer(report: Report) -> None:
    """Check how exactly this machine keeps the 20 ms period that paces every call."""
    lateness = await tick_lateness_ms(TIMER_TICKS)
    worst = lateness[-1]
    p99 = lateness[int(len(lateness) * 0.99) - 1]
    text = f"{FRAME_MS} ms ticks are late by {p99:.1f} ms (p99), {worst:.1f} ms at worst"
    if p99 > LATE_MS or worst > FRAME_MS * CATCH_UP_FRAMES:
        report.warn(
            "tick", text, "the machine is overloaded or a throttled virtual machine: audio will stutter at times"
        )
    else:
        report.ok("tick", text)


async def tick_lateness_ms(ticks: int) -> list[float]:
    """Return the lateness of each tick of a test run, in milliseconds, sorted."""
    start = time.monotonic()
    lateness = []
    for number in range(1, ticks + 1):
        due = start + number * FRAME_MS / 1000
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        lateness.append((time.monotonic() - due) * 1000)
    return sorted(lateness)


async def bind_problem(host: str, port: int) -> str | None:
    """Return why an address cannot be listened on; None if it can."""
    try:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port)
    except OSError as error:
        return (error.strerror or str(error)).rpartition(": ")[2]
    server.close()
    await server.wait_closed()
    return None


async def _ari_of_bridge(config: Config) -> str:
    """Query the health of the program on the HTTP port, which needs no token; "": it is not asterisk-bridge."""
    host = "127.0.0.1" if is_wildcard(config.http.host) else config.http.host
    scheme = "https" if config.http.tls_certificate else "http"
    url = f"{scheme}://{host_and_port(host, config.http.port)}/health"
    try:
        # The certificate is not checked: it has the public host name, and nothing secret is sent.
        async with (
            aiohttp.ClientSession(
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
                timeout=aiohttp.ClientTimeout(total=3),
            ) as session,
            session.get(url, ssl=False) as response,
        ):
            body = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
        return ""
    return str(body.get("ari", "")) if isinstance(body, dict) and "audiosocket" in body else ""
