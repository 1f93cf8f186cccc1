"""The doctor's checks of Asterisk."""

from __future__ import annotations

import time
from datetime import datetime

from bridge.ari.client import AriClient
from bridge.ari.rest import explain_status
from bridge.ari.versions import bugs_of, lacks, parse_version
from bridge.doctor.report import Report
from bridge.doctor.rules import NEEDED_MODULES, OPTIONAL_MODULES, TIMING_PREFIX, missing_modules
from bridge.errors import AriError

MAX_CLOCK_OFFSET_S = 1.0

_UNREACHABLE = (
    "check that Asterisk runs, has enabled=yes, bindaddr and bindport in its http.conf, and that ari.url has that"
    " address; try: curl {url}/asterisk/ping"
)


async def check_ari(report: Report, client: AriClient) -> bool:
    """Check reachability, credentials and version; return False if further checks are useless."""
    try:
        info = await client.asterisk.info()
    except AriError as error:
        if error.status == 0:
            report.fail("ARI", f"{client.url}: {error.message}", _UNREACHABLE.format(url=client.url))
        elif error.status == 401:
            report.fail(
                "ARI credentials",
                f"{client.url} rejects the user and password",
                "ari.user and ari.password must be those of a [user] section in Asterisk's ari.conf (module reload"
                " res_ari.so after a change)",
            )
        else:
            report.fail("ARI", f"{client.url} returns {error.status}", explain_status(error.status, ""))
        return False
    report.ok("ARI", f"{client.url} responds and accepts the user")
    check_version(report, info.system.version)
    return True


async def check_rights(report: Report, client: AriClient) -> bool:
    """Check that the user has write access: hang up a channel that does not exist."""
    try:
        await client.channels.hangup(f"ab-{client.app}-doctor-nobody")
    except AriError as error:
        report.fail(
            "ARI rights",
            f"the user may not change anything ({error.status}: {error.message})",
            "set read_only = no for this user in Asterisk's ari.conf",
        )
        return False
    report.ok("ARI rights", "the user may read and write")
    return True


async def check_clock(report: Report, client: AriClient) -> None:
    """Compare this machine's clock with the PBX's, as people compare the times in logs of both."""
    try:
        before = time.time()
        pong = await client.asterisk.ping()
        middle = (before + time.time()) / 2
        theirs = datetime.strptime(pong.timestamp, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()
    except (AriError, ValueError) as error:
        report.warn(
            "clock",
            f"Asterisk does not report its time: {error}",
            "ignore this if Asterisk is old; otherwise see its log",
        )
        return
    offset = theirs - middle
    text = f"Asterisk's clock is {abs(offset) * 1000:.0f} ms {'ahead of' if offset > 0 else 'behind'} this machine's"
    if abs(offset) > MAX_CLOCK_OFFSET_S:
        report.warn("clock", text, "run an NTP client on both machines; audio is not affected, only times in logs")
    else:
        report.ok("clock", text)


async def check_modules(report: Report, client: AriClient) -> bool:
    """Check that the modules that streams need are loaded; return False if audio cannot work without a missing one."""
    try:
        modules = await client.asterisk.modules()
    except AriError as error:
        report.fail("modules", f"cannot be listed: {error.message}", explain_status(error.status, error.message))
        return True  # unknown: the loop-back call will show it
    running = {module.name for module in modules if module.status == "Running"}
    needed = missing_modules(running, NEEDED_MODULES)
    if not any(name.startswith(TIMING_PREFIX) for name in running):
        needed.append("res_timing_timerfd (a clock for mixing audio)")
    optional = missing_modules(running, OPTIONAL_MODULES)
    advice = "load them in Asterisk's modules.conf, or immediately: asterisk -rx 'module load NAME.so'"
    if needed:
        report.fail("modules", f"not running: {', '.join(needed)}", advice)
    if optional:
        report.warn("modules", f"not running: {', '.join(optional)}", advice + "; unless you do not use them")
    if not needed and not optional:
        report.ok("modules", f"the {len(NEEDED_MODULES) + len(OPTIONAL_MODULES)} required modules are running")
    return not needed


async def check_application(report: Report, client: AriClient, ari_of_bridge: str) -> None:
    """Check that no other program uses the Stasis application: the newer connection takes the older one's events.

    Args:
        report: receives the finding.
        client: the ARI client.
        ari_of_bridge: the state of the ARI connection of the running instance with this configuration (``connected``):
            it is the one that uses the application then. "": none is running.
    """
    try:
        await client.applications.get(client.app)
    except AriError as error:
        if error.status == 404:
            report.ok("Stasis application", f"{client.app!r} is free")
        else:
            report.fail("Stasis application", error.message, explain_status(error.status, error.message))
        return
    if ari_of_bridge == "connected":
        report.ok("Stasis application", f"{client.app!r} is in use, by the running instance")
    elif ari_of_bridge:
        report.warn(
            "Stasis application",
            f"{client.app!r} is in use, and the running instance is not connected to ARI",
            "another program may use it: see that instance's log; set a different ari.app for each program",
        )
    else:
        report.warn(
            "Stasis application",
            f"{client.app!r} exists, and no instance with this configuration is running",
            "if another program is connected under this name, set a different ari.app: two take each other's events;"
            " if a killed process left it behind, do nothing: the next connection takes it over",
        )


def check_version(report: Report, text: str) -> None:
    """Check that a version of Asterisk has every feature and no reported bug that costs audio.

    Args:
        report: receives the finding.
        text: the version, as ARI reports it.
    """
    version = parse_version(text)
    if version is None:
        report.warn(
            "version", f"Asterisk {text or 'without a version'}: not understood", "22.10 and 23.4 are known to work"
        )
        return
    missing, bugs = lacks(version), bugs_of(version)
    if missing:
        report.warn(
            "version", f"Asterisk {text} lacks: {'; '.join(missing)}", "upgrade to the latest Asterisk 22 or 23"
        )
    if bugs:
        report.warn("version", f"Asterisk {text}: {'; '.join(bugs)}", "run a version without the bug if it affects you")
    if not missing and not bugs:
        report.ok("version", f"Asterisk {text}")
