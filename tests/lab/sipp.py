"""SIPp on a lab: many short calls at a time, each ended at a random moment from either side.

Callers are extension 1004, which calls without being registered; the callee is the trunk's far end, which answers
whatever number is called there. Both send a tone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bridge.audio import g711
from bridge.testing import judge
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import TRUNK, Lab, free_port, free_port_block

SCENARIOS = Path(__file__).parent / "sipp_scenarios"
RATE = 8000
_AUDIO_PORTS = 256
"""For each SIPp; it takes four for each call that is up."""


class Sipp:
    """SIPp programs on one lab.

    Args:
        folder: for scenarios and logs.
    """

    def __init__(self, lab: Lab, folder: Path) -> None:
        assert isinstance(lab, EmbeddedLab), "SIPp comes with the embedded lab's packages"
        self._lab = lab
        self._folder = folder
        self._audio = folder / "tone.ulaw"
        self._ports: dict[str, tuple[int, int]] = {}
        """Of each number called: for SIP, and the first for audio. They stay taken as long as this process runs."""
        self._audio.write_bytes(g711.ulaw_encode(judge.tone(440, 1.0, RATE).tobytes()))

    async def call(self, number: str, count: int, *, at_once: int, most_s: float, cancels: bool = False) -> None:
        """Call a number many times.

        Args:
            count: calls altogether.
            at_once: calls at the same time.
            most_s: longest time in seconds before a caller hangs up, or gives up while it rings.
            cancels: callers give up while it rings.
        """
        program = await self._start(
            "canceling_caller" if cancels else "caller",
            most_s,
            number,
            *("-s", number, "-m", str(count), "-l", str(at_once), "-r", str(at_once), "-recv_timeout", "20000"),
            f"{self._lab.settings.host}:{self._lab.settings.sip_port}",
        )
        try:
            await program.wait()  # its exit code reports calls that the PBX has ended, which is as intended
        finally:
            await self._end(program)

    @contextlib.asynccontextmanager
    async def callee(self, most_s: float) -> AsyncIterator[None]:
        """Answer calls at the trunk's far side; hang each up after at most ``most_s`` seconds."""
        await self._lab.phone(TRUNK).stop()
        program = await self._start("callee", most_s, TRUNK, "-s", "far")
        try:
            yield
        finally:
            await self._end(program)

    async def _start(self, scenario: str, most_s: float, number: str, *more: str) -> asyncio.subprocess.Process:
        if number not in self._ports:
            port = self._lab.phone_port(TRUNK) if number == TRUNK else free_port()
            self._ports[number] = port, free_port_block(_AUDIO_PORTS)
        port, audio = self._ports[number]
        text = (SCENARIOS / f"{scenario}.xml").read_text()
        values = {
            "PASSWORD": self._lab.settings.phone_password,
            "AUDIO": str(self._audio),
            "MOST_MS": str(round(most_s * 1000)),
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        file = self._folder / f"{scenario}-{port}.xml"
        file.write_text(text)
        host = self._lab.settings.host
        with (self._folder / f"{scenario}-{port}.log").open("wb") as log:
            return await asyncio.create_subprocess_exec(
                *self._lab.command("usr/bin/sipp", "-sf", str(file), "-i", host, "-mi", host, "-p", str(port)),
                *("-min_rtp_port", str(audio), "-max_rtp_port", str(audio + _AUDIO_PORTS - 1)),
                *("-nostdin", "-trace_err", "-error_file", str(self._folder / f"{scenario}-{port}-errors.log"), *more),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._folder,
            )

    @staticmethod
    async def _end(program: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        await program.wait()
