"""``asterisk-bridge doctor``: checks everything that audio depends on, one line each, with a remedy for each problem.

It only reads and probes: the objects on the PBX for the loop-back call are deleted again.
"""

from __future__ import annotations

from pathlib import Path

from bridge.ari.client import AriClient
from bridge.config import Config
from bridge.doctor import cluster, loopback, machine, pbx
from bridge.doctor.report import Report
from bridge.errors import ConfigError


async def run(config: Config, path: Path | None, report: Report | None = None) -> int:
    """Make every check and print the findings.

    Args:
        config: a valid configuration.
        path: its file, if there was one.
        report: receives the findings; standard output by default.

    Returns:
        The exit code: 1 if a check failed.
    """
    report = report or Report()
    machine.check_configuration(report, config, path)
    ari_of_bridge = await machine.check_http_port(report, config)
    audiosocket_free = await machine.check_audiosocket_port(report, config, bool(ari_of_bridge))
    machine.check_open_files(report, config)
    machine.check_state_file(report, config)
    await machine.check_speech(report, config)
    machine.check_outbound(report, config)
    await machine.check_timer(report)
    await cluster.check(report, config)
    try:
        ari = config.ari
        client = AriClient(ari.url, ari.user, ari.password.get_secret_value(), ari.app, ca_file=ari.ca_file)
    except ConfigError as error:
        report.fail("ARI", str(error), "correct this key of the configuration")
        return report.exit_code
    try:
        if await pbx.check_ari(report, client):
            may_write = await pbx.check_rights(report, client)
            await pbx.check_clock(report, client)
            modules_run = await pbx.check_modules(report, client)
            await pbx.check_application(report, client, ari_of_bridge)
            if may_write and modules_run:
                await loopback.check(report, config, audiosocket_free)
            else:
                report.warn(loopback.NAME, "not made: it would fail", "correct the failures above, then run it again")
    finally:
        await client.stop()
    report.summary()
    return report.exit_code
