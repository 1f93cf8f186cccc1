"""What the doctor looks at on this machine: the configuration, the ports, the clock that audio is paced by."""

from __future__ import annotations

import asyncio
import resource
import stat
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from bridge.audio.format import FRAME_MS
from bridge.config import Config, host_and_port, is_loopback, is_wildcard
from bridge.config.streams import NOT_KEPT
from bridge.doctor.report import Report
from bridge.media.playout_clock import CATCH_UP_FRAMES
from bridge.outbound.headers import USER_AGENT
from bridge.speech.engine import Speech, SpeechFailed, Utterance
from bridge.streams.store import Store

TIMER_TICKS = 100
LATE_MS = 10.0
"""A tick may be as late without being heard: phones keep at least twice that much in their jitter buffers."""


def check_configuration(report: Report, config: Config, path: Path | None) -> None:
    """What is valid but risky, or cannot work with an Asterisk elsewhere."""
    report.ok("configuration", f"{path or 'defaults and environment'}")
    if path and path.stat().st_mode & stat.S_IROTH and (config.http.tokens or config.ari.password.get_secret_value()):
        report.warn("configuration", f"{path} can be read by every user of this machine", f"chmod 640 {path}")
    if not is_loopback(config.http.host) and not config.http.tls_certificate:
        report.warn(
            "configuration",
            "tokens and audio cross the network unencrypted",
            "set http.tls_certificate and http.tls_key, or let a proxy here do TLS and set http.host to 127.0.0.1",
        )
    _check_calling(report, config)
    if not config.audiosocket.allowed and not config.audio_host:
        report.warn(
            "configuration",
            f"every address that reaches {config.audiosocket.bind_host} may connect to the AudioSocket port: ari.url"
            " is on loopback and does not say where Asterisk's audio comes from",
            "list Asterisk's networks in audiosocket.allowed",
        )
    ari = urlsplit(config.ari.url)
    if is_loopback(ari.hostname or ""):
        return
    if ari.scheme == "http":
        report.warn(
            "configuration",
            f"the ARI password goes to {ari.hostname} unencrypted",
            "use https in ari.url unless that network is trusted",
        )
    audiosocket = config.audiosocket
    if is_loopback(audiosocket.advertised_host or audiosocket.bind_host):
        report.warn(
            "configuration",
            f"Asterisk is on {ari.hostname}, but is told to deliver audio to {audiosocket.advertised_address(0)}",
            "set audiosocket.bind_host to an address of this machine (or 0.0.0.0), and audiosocket.advertised_host to"
            " the address by which Asterisk reaches it",
        )


def _check_calling(report: Report, config: Config) -> None:
    calling = config.calling
    shared = _trunk_of(calling.sip_endpoint)
    if shared and shared == _trunk_of(calling.tel_endpoint):
        report.warn(
            "calling",
            f"calls to SIP addresses leave by {shared}, as calls to numbers do: if it has an outbound_auth, Asterisk"
            " answers the challenge of any host that an address names",
            "name an endpoint without outbound_auth in calling.sip_endpoint",
        )
    if calling.sip_endpoint and not calling.sip_hosts:
        text = "calls to SIP addresses are refused: calling.sip_hosts is empty"
        report.warn("calling", text, "list the hosts that may be called")
    if calling.sip_endpoint and "*" in calling.sip_hosts:
        report.warn("calling", "calls to SIP addresses may go to any host", "list the hosts in calling.sip_hosts")


def _trunk_of(template: str) -> str:
    """Return the endpoint by which calls leave: ``trunk-a`` of ``PJSIP/{number}@trunk-a``; empty if there is none."""
    technology, _, rest = template.partition("/")
    if technology.lower() == "local":
        return ""
    user, at, endpoint = rest.partition("@")
    return endpoint if at and "{" in user else rest.partition("/")[0].partition("@")[0]


async def check_http_port(report: Report, config: Config) -> str:
    """Whether the port is free or held by a running bridge.

    Returns:
        Of a running bridge, whether it has ARI: ``connected`` or ``disconnected``; "": no bridge holds the port.
    """
    host, port = config.http.host, config.http.port
    where = host_and_port(host, port)
    problem = await bind_problem(host, port)
    if problem is None:
        report.ok("HTTP port", f"{where} is free" if port else "any free port")
        return ""
    ari = await _ari_of_bridge(config)
    if ari:
        report.ok("HTTP port", f"{where} is held by a running bridge")
        return ari
    report.fail("HTTP port", f"{where}: {problem}", "stop the program that holds it, or change http.host or http.port")
    return ""


async def check_audiosocket_port(report: Report, config: Config, bridge_runs: bool) -> bool:
    """Whether Asterisk's port is free; True if so. Held is fine while a bridge is running."""
    host, port = config.audiosocket.bind_host, config.audiosocket.bind_port
    where = host_and_port(host, port)
    problem = await bind_problem(host, port)
    if problem is None:
        report.ok("AudioSocket port", f"{where} is free" if port else "any free port")
        return True
    if bridge_runs:
        report.ok("AudioSocket port", f"{where} is held, presumably by the running bridge")
    else:
        report.fail(
            "AudioSocket port",
            f"{where}: {problem}",
            "stop the program that holds it, or change audiosocket.bind_host or audiosocket.bind_port",
        )
    return False


def check_open_files(report: Report, config: Config) -> None:
    """Whether the process may open as many sockets as the configured streams need."""
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
    """Whether what is created over HTTP can be kept."""
    path = config.streams.state_file
    trouble = Store(path).trouble
    if trouble is not None:
        report.warn(
            "state file",
            trouble,
            "without it, requests that create subscriptions are answered with 503: run the doctor as the user that the"
            " bridge runs as, or set streams.state_file; a systemd unit needs StateDirectory=",
        )
    elif path in NOT_KEPT:
        report.ok("state file", "none: subscriptions over HTTP do not survive a restart")
    else:
        report.ok("state file", f"{path} can be written")


async def check_speech(report: Report, config: Config) -> None:
    """Whether the program that says what flows say does so, under the limits that it has in a call."""
    command = config.speech.command
    if not command:
        report.ok("speech", "none: speech.command is empty")
        return
    try:
        sound = await Speech(config.speech).say(Utterance("one"))
    except SpeechFailed as problem:
        report.warn("speech", str(problem), "without it nothing can be said in calls; streams do without")
    else:
        report.ok("speech", f"{command[0]} speaks, at {sound.rate} Hz")


def check_outbound(report: Report, config: Config) -> None:
    """Show which connections the bridge may open."""
    outbound = config.outbound
    text = "special addresses are denied"
    if outbound.deny:
        text += f", and {', '.join(outbound.deny)}"
    if outbound.allow:
        text += f"; allowed: {', '.join(outbound.allow)}"
    report.ok("outbound", text)


async def check_timer(report: Report) -> None:
    """How exactly this machine keeps the 20 ms beat by which every call is paced."""
    lateness = await tick_lateness_ms(TIMER_TICKS)
    worst = lateness[-1]
    p99 = lateness[int(len(lateness) * 0.99) - 1]
    text = f"{FRAME_MS} ms ticks come late by {p99:.1f} ms (p99), {worst:.1f} ms at worst"
    if p99 > LATE_MS or worst > FRAME_MS * CATCH_UP_FRAMES:
        report.warn("tick", text, "the machine is overloaded or a throttled virtual one: audio will stutter at times")
    else:
        report.ok("tick", text)


async def tick_lateness_ms(ticks: int) -> list[float]:
    """How late each of some 20 ms ticks came, in milliseconds, sorted."""
    start = time.monotonic()
    lateness = []
    for number in range(1, ticks + 1):
        due = start + number * FRAME_MS / 1000
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        lateness.append((time.monotonic() - due) * 1000)
    return sorted(lateness)


async def bind_problem(host: str, port: int) -> str | None:
    """Why an address cannot be listened on; None if it can."""
    try:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port)
    except OSError as error:
        return (error.strerror or str(error)).rpartition(": ")[2]
    server.close()
    await server.wait_closed()
    return None


async def _ari_of_bridge(config: Config) -> str:
    """Ask what answers on our HTTP port for its health, which needs no token; "": it is not a bridge."""
    host = "127.0.0.1" if is_wildcard(config.http.host) else config.http.host
    scheme = "https" if config.http.tls_certificate else "http"
    url = f"{scheme}://{host_and_port(host, config.http.port)}/health"
    try:
        # No check of the certificate: it names the bridge's public host, and nothing secret is sent.
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
