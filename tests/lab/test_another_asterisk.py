"""The lab runs an Asterisk that the user has installed: here the packaged one, below a prefix of its own."""

from __future__ import annotations

import shlex
from pathlib import Path

from bridge.testing import judge, packages
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.plugin import progress
from tests.lab.waiting import sends

RATE = 8000


def install(prefix: Path) -> None:
    """Install the packaged Asterisk as ``make install`` would, without a module that the lab can do without."""
    root = packages.ensure(progress)
    modules = prefix / "lib" / "asterisk" / "modules"
    modules.mkdir(parents=True)
    for module in root.asterisk_modules.glob("*.so"):
        if module.name != "func_uuid.so":
            (modules / module.name).symlink_to(module)
    (prefix / "var" / "lib").mkdir(parents=True)
    (prefix / "var" / "lib" / "asterisk").symlink_to(root.path / "usr" / "share" / "asterisk")
    program = prefix / "sbin" / "asterisk"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(root.command("usr/sbin/asterisk"))} "$@"\n')
    program.chmod(0o755)


async def test_an_asterisk_below_a_prefix_carries_a_call(tmp_path: Path) -> None:
    install(tmp_path / "asterisk")
    lab = EmbeddedLab(tmp_path / "lab", progress=progress, asterisk=tmp_path / "asterisk")
    try:
        await lab.start()
        assert "func_uuid" not in await lab.cli("module show"), "its modules are not those of the prefix"
        phone = lab.phone("1001")
        await phone.start()
        await phone.call("600", play=judge.tone(440, 5.0, RATE))
        await phone.answered()
        await sends(phone, 1.5)
        await phone.hangup()
        assert judge.level_of(phone.recording(), 440, RATE) > 1000
    finally:
        await lab.stop()
