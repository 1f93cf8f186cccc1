"""Virtual machines for a test: network namespaces with an address each, whose cables can be unplugged.

Each machine has a loopback interface and ports of its own; this process reaches all machines by their addresses. It
needs root. This machine gets one interface with an address of that network. The switch is in a namespace as well, so
packets between machines pass no firewall of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.testing import packages
from bridge.testing.lab_engine import LabError

NAMED = Path("/run/netns")  # where ip-netns(8) keeps names
SUBNETS = "198.18"
"""RFC 2544: for tests of networks, used by nobody else; each network takes one 198.18.N.0/24 of them."""
_NOBODY = "02:00:00:00:00:01"


@dataclass(frozen=True)
class Machine:
    """One machine; created by `Network.machine`.

    Args:
        name: of the machine, within its network.
        address: its IPv4 address.
        namespace: name of its network namespace.
    """

    name: str
    address: str
    namespace: str

    def command(self, line: Sequence[str]) -> list[str]:
        """Return the command line that runs a program on the machine; the program has the pid of the command."""
        return ["nsenter", f"--net={NAMED / self.namespace}", *line]


class Network:
    """Machines on one switch; created by `open_network`."""

    def __init__(self, root: packages.Root) -> None:
        self._root = root
        self._prefix = f"ab-{os.getpid()}-{secrets.token_hex(2)}"
        self._switch = f"{self._prefix}-switch"
        self._cable = f"ab{secrets.token_hex(4)}"  # this machine's end; an interface's name has at most 15 characters
        self._subnet = f"{SUBNETS}.{secrets.randbelow(256)}"
        self._machines: list[Machine] = []

    @property
    def address(self) -> str:
        """The address of this process on the network."""
        return f"{self._subnet}.1"

    async def start(self) -> None:
        """Create the switch, and connect this machine to it.

        Raises:
            LabError: the kernel refuses: not root, or no support for namespaces.
        """
        _forget_the_dead()
        await self._ip(f"netns add {self._switch}")
        await self._ip(
            f"-netns {self._switch} link add switch type bridge",
            f"-netns {self._switch} link set switch up",
        )
        await self._connect("", self._cable, self.address, "here")

    async def stop(self) -> None:
        """Remove all machines. Programs that still run there lose their network; this does not end them."""
        for namespace in (*(machine.namespace for machine in self._machines), self._switch):
            with contextlib.suppress(LabError):
                await self._ip(f"netns delete {namespace}")

    async def machine(self, name: str) -> Machine:
        """Add a machine and return it."""
        number = len(self._machines) + 2
        machine = Machine(name, f"{self._subnet}.{number}", f"{self._prefix}-{name}")
        self._machines.append(machine)
        await self._ip(f"netns add {machine.namespace}", f"-netns {machine.namespace} link set lo up")
        await self._connect(f"-netns {machine.namespace} ", "eth0", machine.address, self._port(machine))
        return machine

    async def unplug(self, machine: Machine) -> None:
        """Disconnect a machine's cable."""
        await self._ip(f"-netns {self._switch} link set {self._port(machine)} down")

    async def plug(self, machine: Machine) -> None:
        """Connect the cable again."""
        await self._ip(f"-netns {self._switch} link set {self._port(machine)} up")

    async def cut(self, one: Machine, other: Machine) -> None:
        """Drop all packets between two machines, without an error on either.

        Each gets a nonexistent hardware address for the other: the kernel reports an
        unreachable route to the sender, and a firewall rule needs a kernel module.
        """
        for here, there in ((one, other), (other, one)):
            await self._ip(
                f"-netns {here.namespace} neigh replace {there.address} lladdr {_NOBODY} nud permanent dev eth0"
            )

    async def mend(self, one: Machine, other: Machine) -> None:
        """Undo `cut`."""
        for here, there in ((one, other), (other, one)):
            await self._ip(f"-netns {here.namespace} neigh delete {there.address} dev eth0")

    async def _connect(self, where: str, interface: str, address: str, port: str) -> None:
        """Lay a cable from an interface, which gets an address, to a port of the switch."""
        await self._ip(
            f"{where}link add {interface} type veth peer name {port} netns {self._switch}",
            f"-netns {self._switch} link set {port} master switch up",
            f"{where}address add {address}/24 dev {interface}",
            f"{where}link set {interface} up",
        )

    def _port(self, machine: Machine) -> str:
        return f"port{machine.address.rpartition('.')[2]}"

    async def _ip(self, *commands: str) -> None:
        for command in commands:
            process = await asyncio.create_subprocess_exec(
                *self._root.command("usr/sbin/ip", *command.split()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            if process.returncode:
                raise LabError(f"ip {command}: {output.decode(errors='replace').strip()}")


def _forget_the_dead() -> None:
    """Delete namespaces of processes that were killed before they could do it."""
    for path in NAMED.glob("ab-*-*") if NAMED.is_dir() else ():
        pid = path.name.split("-")[1]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            subprocess.run(["umount", str(path)], check=False, capture_output=True)
            with contextlib.suppress(OSError):  # somebody still holds it: the next network will try again
                path.unlink()


@contextlib.asynccontextmanager
async def open_network() -> AsyncIterator[Network]:
    """Open a network without machines.

    Raises:
        PackagesUnavailable: iproute2 could not be fetched.
        LabError: the kernel refuses.
    """
    network = Network(await asyncio.to_thread(packages.ensure, print, packages.NETWORK_PACKAGES))
    try:
        await network.start()
        yield network
    finally:
        await network.stop()
