"""The interface of a lab, common to its engines: a real Asterisk and real softphones, driven from tests."""

from __future__ import annotations

import atexit
import base64
import secrets
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bridge.errors import BridgeError
from bridge.testing.phone import Phone

EXTENSIONS = ("1001", "1002", "1003")
TRUNK = "trunk"  # the phone that is the trunk's far end
TRUNK_NUMBER = "5550100"  # what its calls show as their caller
PHONES = (*EXTENSIONS, TRUNK)


class LabError(BridgeError):
    """The lab failed; the message has the reason and the remedy."""


def ari_problem(url: str, user: str, password: str) -> str | None:
    """Return why ARI cannot be used at a URL; None: it can. Sends a request, which may take 2 s."""
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(f"{url}/ari/asterisk/ping", headers={"Authorization": f"Basic {login}"})
    try:
        with urllib.request.urlopen(request, timeout=2):
            return None
    except (urllib.error.URLError, OSError) as error:
        return str(error)


@dataclass(frozen=True)
class LabSettings:
    """Addresses and secrets of a lab.

    Args:
        system_name: first part of Asterisk's channel ids; different for each Asterisk.
        host: address of all listening ports.
        sip_port: SIP over UDP.
        http_port: ARI and SIP over WebSocket.
        rtp_start, rtp_end: first and last UDP port for audio.
        audiosocket_host, audiosocket_port: address that Asterisk's dialplan dials; asterisk-bridge must listen there.
        phone_ports: first of the ports for softphones: eight for each phone.
        ari_user, ari_password, ari_app: the ARI account and the Stasis application of asterisk-bridge.
        phone_password: password of every extension.
        direct_media: whether extensions send audio directly to each other where possible (embedded engine only).
    """

    system_name: str = "lab"
    host: str = "127.0.0.1"
    sip_port: int = 5060
    http_port: int = 8088
    rtp_start: int = 10000
    rtp_end: int = 10999
    audiosocket_host: str = "127.0.0.1"
    audiosocket_port: int = 9092
    phone_ports: int = 5080
    ari_user: str = "bridge"
    ari_password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    ari_app: str = "bridge"
    phone_password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)
    direct_media: bool = False


class Lab(Protocol):
    """A running Asterisk with softphones.

    The engines `EmbeddedLab` and `DockerLab` implement it; tests use nothing else of them.
    """

    @property
    def name(self) -> str:
        """``embedded`` or ``docker``."""

    @property
    def ari_url(self) -> str:
        """Base address of ARI as reached from here, without ``/ari``: ``http://127.0.0.1:8088``."""

    @property
    def ari_user(self) -> str:
        """The ARI user of asterisk-bridge."""

    @property
    def ari_password(self) -> str:
        """The ARI user's password."""

    @property
    def ari_app(self) -> str:
        """The Stasis application that the dialplan's 750 enters."""

    @property
    def audiosocket_host(self) -> str:
        """Address at which Asterisk reaches asterisk-bridge: the address to advertise."""

    @property
    def audiosocket_port(self) -> int:
        """Port at which Asterisk reaches the AudioSocket listener of asterisk-bridge."""

    @property
    def audiosocket_bind(self) -> str:
        """Address that asterisk-bridge must bind for Asterisk to reach it."""

    @property
    def speech_command(self) -> tuple[str, ...]:
        """The value of ``[speech] command`` for an instance in this process: the lab's own espeak-ng.

        Tests also use it to generate speech for comparison.
        """

    @property
    def logs(self) -> Path:
        """Directory of the log files: ``asterisk.log``, ``phone-1001.log``..."""

    async def start(self) -> None:
        """Start Asterisk; return when ARI answers. Phones are started one by one by `phone`."""

    async def stop(self) -> None:
        """End Asterisk and every phone, and remove their files and containers; does nothing if they have ended."""

    async def restart_asterisk(self) -> None:
        """Kill Asterisk as a crash would, and start it again; return when ARI responds."""

    async def cli(self, command: str) -> str:
        """Run a command of Asterisk's command line and return what it printed."""

    def phone(self, name: str) -> Phone:
        """Return the phone of an extension, or of the trunk's far end (``trunk``); it need not be started yet."""


_FIRST, _LAST = 12000, 32000  # below the ports that the system hands out (ip_local_port_range)
_UNIT = 16  # ports that are taken together
_taken: list[socket.socket] = []


@atexit.register
def _release() -> None:
    """Close the sockets that reserve ports: Python reports those that are still open at the end."""
    for name in _taken:
        name.close()


def free_port(host: str = "127.0.0.1") -> int:
    """Reserve a free port and return it: neither the system nor this function assigns it again."""
    return free_port_block(1, host)


def free_port_block(size: int, host: str = "127.0.0.1") -> int:
    """Reserve ``size`` consecutive ports, free for UDP and TCP, below the system's ephemeral ports; return the first.

    They stay reserved until this process ends: Asterisk binds most of its ports only when a call needs them, and labs
    of other processes must get other ports.

    Raises:
        LabError: no such block is free.
    """
    units = -(-size // _UNIT)
    for _ in range(200):
        first_unit = _FIRST // _UNIT + secrets.randbelow((_LAST - _FIRST) // _UNIT - units + 1)
        first = first_unit * _UNIT
        names: list[socket.socket] = []
        if _take(range(first_unit, first_unit + units), names) and all(
            _is_free(first + offset, host) for offset in range(size)
        ):
            _taken.extend(names)
            return first
        for name in names:
            name.close()
    raise LabError(f"no {size} free ports in a row between {_FIRST} and {_LAST}")


def _take(units: range, names: list[socket.socket]) -> bool:
    """Reserve the units' names in the kernel's abstract namespace, which is cleared when the process ends (unix(7))."""
    for unit in units:
        try:
            name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            names.append(name)
            name.bind(f"\0asterisk-bridge-lab/ports/{unit}")
        except OSError:
            return False
    return True


def _is_free(port: int, host: str) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
