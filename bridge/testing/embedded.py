"""The embedded lab: Debian's Asterisk and baresip from a cache folder, on loopback, without Docker and without root."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bridge.testing import packages
from bridge.testing.asterisk_files import AsteriskFiles, at_prefix, of_packages
from bridge.testing.lab_engine import (
    PHONES,
    TRUNK,
    TRUNK_NUMBER,
    LabError,
    LabSettings,
    ari_problem,
    free_port,
    free_port_block,
)
from bridge.testing.network import Machine
from bridge.testing.phone import Phone, PhonePlace
from bridge.testing.processes import BackgroundProgram

# In a wheel the configuration lies within the package, in a checkout beside it.
_INSTALLED = Path(__file__).resolve().parent / "asterisk"
CONFIGURATION = _INSTALLED if _INSTALLED.exists() else Path(__file__).resolve().parents[2] / "asterisk"
BOOT_TIMEOUT_S = 60.0
_LONGEST_SOCKET_PATH = 100  # sun_path holds 108 bytes (unix(7)); Asterisk appends a name


def settings_with_free_ports() -> LabSettings:
    """Return settings whose ports are free: for tests, which may run beside another lab."""
    first_rtp = free_port_block(240)
    return LabSettings(
        sip_port=free_port(),
        http_port=free_port(),
        rtp_start=first_rtp,
        rtp_end=first_rtp + 239,
        audiosocket_port=free_port(),
        phone_ports=free_port_block(8 * len(PHONES)),
    )


class EmbeddedLab:
    """A `Lab` made of ordinary processes of this user.

    Args:
        folder: for configuration, logs and recordings; it may be that of a lab that already runs.
        settings: addresses and secrets; by default free ports, or on a machine of its own the usual ones, and fresh
            passwords.
        outlive_us: whether the processes continue when this one ends (``./lab up``).
        progress: called with a message about each long step.
        machine: where Asterisk and the phones run; by default this one, on loopback.
        asterisk: the installation prefix of the Asterisk to run; by default Debian's. The phones are always Debian's.
    """

    name = "embedded"

    def __init__(
        self,
        folder: Path,
        settings: LabSettings | None = None,
        *,
        outlive_us: bool = False,
        progress: packages.Progress = print,
        machine: Machine | None = None,
        asterisk: Path | None = None,
    ) -> None:
        if settings is None and machine is not None:
            settings = LabSettings(system_name=machine.name, host=machine.address, audiosocket_host=machine.address)
        self.settings = settings or settings_with_free_ports()
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self.ari_url = f"http://{self.settings.host}:{self.settings.http_port}"
        self.ari_user = self.settings.ari_user
        self.ari_password = self.settings.ari_password
        self.ari_app = self.settings.ari_app
        self.audiosocket_host = self.audiosocket_bind = self.settings.audiosocket_host
        self.audiosocket_port = self.settings.audiosocket_port
        self._outlive_us = outlive_us
        self._progress = progress
        self._machine = machine
        self._root: packages.Root | None = None
        self._prefix = asterisk
        self._phones: dict[str, Phone] = {}
        for path in (self.folder / "run", self.logs):
            path.mkdir(parents=True, exist_ok=True)
        self._asterisk = BackgroundProgram("asterisk", self.folder / "run", self.logs / "asterisk.log")

    @property
    def root(self) -> packages.Root:
        """The unpacked packages; fetched at the first use."""
        if self._root is None:
            self._root = packages.ensure(self._progress)
        return self._root

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command line that runs a program of the packages on the lab's machine."""
        return self._on_machine(self.root.command(program, *arguments))

    @property
    def _files(self) -> AsteriskFiles:
        return of_packages(self.root) if self._prefix is None else at_prefix(self._prefix)

    def _asterisk_command(self, *arguments: str) -> list[str]:
        etc = self.folder / "asterisk" / "etc"
        return [*self._files.command, "-C", str(etc / "asterisk.conf"), *arguments]

    def _on_machine(self, line: list[str]) -> list[str]:
        return line if self._machine is None else self._machine.command(line)

    @property
    def speech_command(self) -> tuple[str, ...]:
        """The value of ``[speech] command``: espeak-ng of the unpacked packages."""
        return self.root.speech_command

    @property
    def running(self) -> bool:
        """Whether Asterisk runs, also if another process started it."""
        return self._asterisk.pid is not None

    async def start(self) -> None:
        """Start Asterisk; return when ARI answers.

        Raises:
            PackagesUnavailable: the packages could not be fetched.
            LabError: Asterisk did not start; the message contains the end of its log.
        """
        await asyncio.to_thread(lambda: self.root)
        for name in ("varlib/keys", "spool/recording", "log"):
            (self.folder / "asterisk" / name).mkdir(parents=True, exist_ok=True)
        render(CONFIGURATION / "etc", self.folder / "asterisk" / "etc", self._places())
        await self._boot()

    async def stop(self) -> None:
        """End Asterisk and every phone; logs and recordings stay."""
        for name in PHONES:
            await self.phone(name).stop()
        await self._asterisk.stop()
        link = self.folder / "run" / "socket"
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
            link.unlink()

    async def restart_asterisk(self) -> None:
        """Kill Asterisk as a crash would, and start it again; return when ARI responds."""
        await self._asterisk.stop(at_once=True)
        await self._boot()

    async def cli(self, command: str) -> str:
        """Run a command of Asterisk's command line and return what it printed."""
        process = await asyncio.create_subprocess_exec(
            *self._asterisk_command("-rx", command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise LabError(f"asterisk -rx '{command}': {output.decode(errors='replace').strip()}")
        return output.decode(errors="replace")

    def phone(self, name: str) -> Phone:
        """Return the phone of an extension, or of the trunk's far end (``trunk``)."""
        if name not in self._phones:
            self._phones[name] = Phone(name, _Place(self, name, outlive_us=self._outlive_us), registers=name != TRUNK)
        return self._phones[name]

    def _places(self) -> dict[str, str]:
        s = self.settings
        asterisk = self.folder / "asterisk"
        files = self._files
        return {
            "ETC_DIR": str(asterisk / "etc"),
            "MODULES_DIR": str(files.modules),
            "DATA_DIR": str(files.data),
            "VARLIB_DIR": str(asterisk / "varlib"),
            "SPOOL_DIR": str(asterisk / "spool"),
            "LOG_DIR": str(asterisk / "log"),
            "RUN_DIR": str(self._socket_folder()),
            "SYSTEM_NAME": s.system_name,
            "BIND": s.host,
            "MEDIA_ADDRESS": s.host,
            "SIP_PORT": str(s.sip_port),
            "HTTP_PORT": str(s.http_port),
            "RTP_START": str(s.rtp_start),
            "RTP_END": str(s.rtp_end),
            "ARI_USER": s.ari_user,
            "ARI_PASSWORD": s.ari_password,
            "PHONE_PASSWORD": s.phone_password,
            "APP": s.ari_app,
            "AUDIOSOCKET": f"{s.audiosocket_host}:{s.audiosocket_port}",
            "DIRECT_MEDIA": "yes" if s.direct_media else "no",
            "TRUNK_HOST": s.host,
            "TRUNK_PORT": str(self.phone_port(TRUNK)),
        }

    def phone_port(self, name: str) -> int:
        """Return the first of a phone's eight ports: SIP, TLS (which baresip opens unasked), control, then RTP."""
        return self.settings.phone_ports + 8 * PHONES.index(name)

    def _socket_folder(self) -> Path:
        """Return the directory of Asterisk's control socket: a short one if the lab's path is too long for a socket."""
        if len(str(self.folder)) < _LONGEST_SOCKET_PATH - 30:
            folder = self.folder / "asterisk" / "run"
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        link = self.folder / "run" / "socket"
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(tempfile.mkdtemp(prefix="bridge-lab-"))
        return link.resolve()

    async def _boot(self) -> None:
        if self._asterisk.pid is not None:
            raise LabError(f"Asterisk in {self.folder} is already running (process {self._asterisk.pid})")
        self._asterisk.start(self._on_machine(self._asterisk_command("-f")), outlive_us=self._outlive_us)
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while True:
            problem = await asyncio.to_thread(ari_problem, self.ari_url, self.ari_user, self.ari_password)
            if problem is None:
                return
            if self._asterisk.pid is None or time.monotonic() > deadline:
                await self._asterisk.stop(at_once=True)
                raise LabError(
                    f"Asterisk does not answer ({problem}); its log {self._asterisk.log} ends:\n"
                    f"{self._asterisk.last_lines()}"
                )
            await asyncio.sleep(0.05)


class _Place:
    """The process of a softphone, run by this user."""

    def __init__(self, lab: EmbeddedLab, name: str, *, outlive_us: bool) -> None:
        self._lab = lab
        self._name = name
        self._outlive_us = outlive_us
        first = lab.phone_port(name)
        self.control = (lab.settings.host, first + 2)
        self.files = lab.folder / "phones" / name
        self.domain = f"{lab.settings.host}:{lab.settings.sip_port}"
        self._process = BackgroundProgram(f"phone-{name}", lab.folder / "run", lab.logs / f"phone-{name}.log")

    @property
    def running(self) -> bool:
        return self._process.pid is not None

    async def start(self) -> None:
        lab, s = self._lab, self._lab.settings
        first = lab.phone_port(self._name)
        trunk = self._name == TRUNK
        render(
            CONFIGURATION / "phones" / "baresip",
            self.files,
            {
                "ARI_PASSWORD": "-",  # the phones' templates do not hold it
                "PHONE_PASSWORD": s.phone_password,
                "PHONE": TRUNK_NUMBER if trunk else self._name,
                "PHONE_INTERFACE": s.host,
                "PHONE_SIP": f"{s.host}:{first}",
                "PHONE_CONTROL": f"{s.host}:{first + 2}",
                "PHONE_RTP": f"{first + 4}-{first + 7}",
                "PHONE_MODULES": str(lab.root.baresip_modules),
                "PHONE_CODECS": "PCMU/8000/1",
                "REGISTER_EXPIRES": "0" if trunk else "60",
                "REGISTRAR": self.domain,
            },
        )
        self._process.start(
            lab.command("usr/bin/baresip", "-f", str(self.files)), outlive_us=self._outlive_us, folder=self.files
        )

    async def stop(self) -> None:
        await self._process.stop(patience_s=2.0)

    def last_lines(self) -> str:
        return self._process.last_lines()


def render(templates: Path, output: Path, values: dict[str, str]) -> None:
    """Fill configuration templates by ``asterisk/render``, as the containers do.

    Raises:
        LabError: a template contains a name without a value.
    """
    environ = {**os.environ, **{f"LAB_{name}": value for name, value in values.items()}}
    command = ["sh", str(CONFIGURATION / "render"), str(templates), str(output)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")


_: type[PhonePlace] = _Place
