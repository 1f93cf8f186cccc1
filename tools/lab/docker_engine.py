"""The Docker lab: the services of ``compose.yaml``, driven over Docker's command line.

The same `Lab` handle as the embedded one. Why the command line and not the SDK: ``docs/decisions/docker-cli.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge import __version__
from bridge.config.speech import ESPEAK
from bridge.testing.embedded import settings_with_free_ports
from bridge.testing.lab_engine import PHONES, TRUNK, LabError, LabSettings, ari_problem
from bridge.testing.packages import Progress
from bridge.testing.phone import Phone, PhonePlace
from tools.lab import docker_command as docker

CHECKOUT = Path(__file__).resolve().parents[2]
# Resolved in Asterisk's container to an address of this machine (extra_hosts in compose.yaml).
THIS_MACHINE = "host.docker.internal"
BASE_IMAGE_TIMEOUT_S = 1200.0
BUILD_TIMEOUT_S = 900.0
UP_TIMEOUT_S = 120.0
READY_TIMEOUT_S = 60.0
READY = "ready"
_PROJECT_LABEL = "com.docker.compose.project"
_SERVICE_LABEL = "com.docker.compose.service"


@dataclass(frozen=True)
class ComposedBridge:
    """The bridge as a container.

    Args:
        token: what applications must present.
        http_port: port on this machine.
        echo_delay_ms: start the echo application too, with this delay; None: leave the calls alone, for tests.
    """

    token: str
    http_port: int = 8080
    echo_delay_ms: int | None = None


class DockerLab:
    """A `Lab` made of containers.

    Args:
        folder: where logs and recordings go; its path names the compose project, so any process that gives the same
            folder finds the same lab.
        settings: addresses and secrets; by default free ports and fresh passwords. The RTP range has no
            meaning here: it is that of the container.
        composed_bridge: start the bridge as a container too; None: it runs outside, on `audiosocket_bind`.
        progress: called with a message about each long step.
    """

    name = "docker"

    def __init__(
        self,
        folder: Path,
        settings: LabSettings | None = None,
        *,
        composed_bridge: ComposedBridge | None = None,
        progress: Progress = print,
    ) -> None:
        self.settings = settings or settings_with_free_ports()
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self.project = "bridge-lab-" + hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]
        self.ari_url = f"http://{self.settings.host}:{self.settings.http_port}"
        self.ari_user = self.settings.ari_user
        self.ari_password = self.settings.ari_password
        self.ari_app = self.settings.ari_app
        self.composed_bridge = composed_bridge
        self.audiosocket_host = "bridge" if composed_bridge else THIS_MACHINE
        self.audiosocket_port = 9092 if composed_bridge else self.settings.audiosocket_port
        self._audiosocket_bind: str | None = None
        self._progress = progress
        self._phones: dict[str, Phone] = {}
        self._compose: tuple[str, ...] = ()
        self.logs.mkdir(parents=True, exist_ok=True)

    @property
    def audiosocket_bind(self) -> str:
        """Address that asterisk-bridge must bind for Asterisk to reach it; known once the lab is started.

        For an instance outside of the containers: the address that Asterisk's container has for this machine, if it is
        one of this machine; else loopback, which is where Docker forwards to when it runs in a virtual machine (Docker
        Desktop).
        """
        if self.composed_bridge is not None:
            return "0.0.0.0"
        if self._audiosocket_bind is None:
            line = ["docker", "exec", self.container("asterisk"), "getent", "ahostsv4", THIS_MACHINE]
            self._audiosocket_bind = docker.run(line).split()[0]
            with socket.socket() as probe:
                try:
                    probe.bind((self._audiosocket_bind, 0))
                except OSError:
                    self._audiosocket_bind = "127.0.0.1"
        return self._audiosocket_bind

    @property
    def speech_command(self) -> tuple[str, ...]:
        """The value of ``[speech] command``: espeak-ng of the product's image, or of this machine where none runs.

        The composed bridge itself needs no such detour: it has the program at the place where it looks for it.
        """
        if self.composed_bridge is None:
            return ESPEAK
        return ("docker", "exec", "-i", self.container("bridge"), *ESPEAK)

    @property
    def services(self) -> tuple[str, ...]:
        """The services of compose.yaml that this lab is made of."""
        services = ["asterisk", *(service_of(name) for name in PHONES)]
        if self.composed_bridge is not None:
            services.append("bridge")
            if self.composed_bridge.echo_delay_ms is not None:
                services.append("echo")
        return tuple(services)

    async def start(self) -> None:
        """Build the images where needed, start the containers and wait until all are healthy and ARI answers.

        Raises:
            LabError: Docker is not available, or a step failed or took too long; the message has its output.
        """
        if not (CHECKOUT / "compose.yaml").exists():
            raise LabError(f"the docker lab needs a checkout of the sources: there is no compose.yaml in {CHECKOUT}")
        await self._check_docker()
        await self._step("base image", [str(CHECKOUT / "asterisk" / "base-image")], BASE_IMAGE_TIMEOUT_S)
        await asyncio.to_thread(docker.collect_certificates, CHECKOUT / "extra-ca", os.environ)
        await self._step("building the images", self._compose_line("build", *self.services), BUILD_TIMEOUT_S)
        # Docker would make missing folders itself, and root their owner.
        for folder in ("echo", *(f"phones/{name}" for name in PHONES)):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        try:
            await self._step(
                "starting the containers", self._compose_line("up", "-d", "--no-build", *self.services), UP_TIMEOUT_S
            )
            await self._wait_ready(self.services)
            await self._wait_for_ari()
        except BaseException:
            with contextlib.suppress(LabError):
                await self.stop()
            raise

    async def stop(self) -> None:
        """End and remove the containers, their network and volumes; logs and recordings stay."""
        for phone in self._phones.values():
            await phone.release()
        if not await asyncio.to_thread(self.containers):
            return
        await self._check_docker()
        await self.save_logs()
        await self._step("removing the containers", self._compose_line("down", "-v", "-t", "3"), UP_TIMEOUT_S)

    async def restart_asterisk(self) -> None:
        """Kill Asterisk as a crash would, and start it again; return when ARI responds."""
        # -t 0: no time for an orderly end. What `docker kill` ends by hand would not be started by its policy.
        await self._docker("restart", "-t", "0", await asyncio.to_thread(self.container, "asterisk"))
        await self._wait_ready(["asterisk"])
        await self._wait_for_ari()

    async def cli(self, command: str) -> str:
        """Run a command of Asterisk's command line and return what it printed."""
        container = await asyncio.to_thread(self.container, "asterisk")
        return await self._docker("exec", container, "asterisk", "-rx", command)

    def phone(self, name: str) -> Phone:
        """Return the phone of an extension, or of the trunk's far end (``trunk``)."""
        if name not in self._phones:
            self._phones[name] = Phone(name, _Place(self, name), registers=name != TRUNK)
        return self._phones[name]

    def phone_control_port(self, name: str) -> int:
        """Return the port on this machine at which a phone is driven."""
        return self.settings.phone_ports + 8 * PHONES.index(name) + 2

    def containers(self) -> dict[str, str]:
        """Return the id of each service's container, running or not."""
        wanted = f"label={_PROJECT_LABEL}={self.project}"
        shown = '{{.ID}} {{.Label "%s"}}' % _SERVICE_LABEL  # noqa: UP031 - braces are Go's here
        out = docker.run(["docker", "ps", "-a", "--filter", wanted, "--format", shown])
        pairs = (line.split() for line in out.splitlines())
        return {service: container for container, service in pairs}

    def container(self, service: str) -> str:
        """Return the id of a service's container.

        Raises:
            LabError: there is none: the lab is not started.
        """
        try:
            return self.containers()[service]
        except KeyError:
            raise LabError(f"the lab {self.project} has no container for {service}; it is not started") from None

    async def save_logs(self) -> None:
        """Write the output of each container so far to the folder `logs`."""
        for service, container in (await asyncio.to_thread(self.containers)).items():
            with (self.logs / f"{service}.log").open("wb") as log:
                await asyncio.to_thread(
                    subprocess.run,
                    ["docker", "logs", container],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=docker.COMMAND_TIMEOUT_S,
                    check=False,
                )

    def last_lines(self, service: str, count: int = 12) -> str:
        """Return the end of a service's log, for error messages."""
        container = self.containers().get(service)
        if container is None:
            return "(no container)"
        return docker.run(["docker", "logs", "--tail", str(count), container], check=False).rstrip()

    async def wait_ready(self, service: str) -> None:
        """Wait until a service's container does its work.

        Raises:
            LabError: it does not in time; the message holds the end of its log.
        """
        await self._wait_ready([service])

    def environment(self) -> dict[str, str]:
        """Return the variables that compose.yaml asks for."""
        s = self.settings
        bridge = self.composed_bridge
        return {
            "COMPOSE_PROJECT_NAME": self.project,
            "LAB_ARI_USER": s.ari_user,
            "LAB_ARI_PASSWORD": s.ari_password,
            "LAB_PHONE_PASSWORD": s.phone_password,
            "LAB_APP": s.ari_app,
            "LAB_AUDIOSOCKET": f"{self.audiosocket_host}:{self.audiosocket_port}",
            "LAB_PHONES": str(self.folder / "phones"),
            # Phones write into this user's directories and this process into theirs: they run as this user (no
            # capabilities).
            "LAB_UID": str(os.getuid()),
            "LAB_GID": str(os.getgid()),
            # compose.yaml refuses to start the bridge without a token; where it is not started, nobody gets this one.
            "BRIDGE_TOKEN": bridge.token if bridge else secrets.token_hex(24),
            "BRIDGE_VERSION": __version__,
            "PUBLISH_HTTP": f"{s.host}:{bridge.http_port if bridge else 0}",
            "LAB_ECHO": str(self.folder / "echo"),
            "ECHO_DELAY_MS": str(bridge.echo_delay_ms if bridge and bridge.echo_delay_ms is not None else 500),
            "PUBLISH_ARI": f"{s.host}:{s.http_port}",
            "PUBLISH_SIP": f"{s.host}:{s.sip_port}",
            **{f"PUBLISH_PHONE_{name.upper()}": f"{s.host}:{self.phone_control_port(name)}" for name in PHONES},
        }

    async def _check_docker(self) -> None:
        if not self._compose:
            self._compose = await asyncio.to_thread(docker.find_compose)

    def _compose_line(self, *arguments: str) -> list[str]:
        return [*self._compose, "-f", str(CHECKOUT / "compose.yaml"), "--project-directory", str(CHECKOUT), *arguments]

    async def _docker(self, *arguments: str) -> str:
        return await asyncio.to_thread(docker.run, ["docker", *arguments])

    async def _step(self, what: str, command: Sequence[str], timeout_s: float) -> None:
        environ = {**os.environ, **self.environment()}
        await docker.step(
            what,
            command,
            self.logs / "docker.log",
            timeout_s,
            environ=environ,
            folder=CHECKOUT,
            progress=self._progress,
        )

    async def _wait_ready(self, services: Sequence[str]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            containers = await asyncio.to_thread(self.containers)
            state = {
                service: await asyncio.to_thread(_state, containers[service]) if service in containers else "missing"
                for service in services
            }
            waiting = [service for service in services if state[service] != READY]
            if not waiting:
                return
            if time.monotonic() > deadline:
                service = waiting[0]
                lines = await asyncio.to_thread(self.last_lines, service)
                raise LabError(
                    f"{service} is not ready after {READY_TIMEOUT_S:.0f} s ({state[service]}); its log ends:\n{lines}"
                )
            await asyncio.sleep(0.1)

    async def _wait_for_ari(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while (
            problem := await asyncio.to_thread(ari_problem, self.ari_url, self.ari_user, self.ari_password)
        ) is not None:
            if time.monotonic() > deadline:
                lines = await asyncio.to_thread(self.last_lines, "asterisk")
                raise LabError(f"ARI does not answer at {self.ari_url} ({problem}); Asterisk's log ends:\n{lines}")
            await asyncio.sleep(0.1)


class _Place:
    """The container of a softphone."""

    def __init__(self, lab: DockerLab, name: str) -> None:
        self._lab = lab
        self._name = name
        self._service = service_of(name)
        self.control = (lab.settings.host, lab.phone_control_port(name))
        self.files = lab.folder / "phones" / name
        self.domain = "asterisk:5060"

    @property
    def running(self) -> bool:
        container = self._lab.containers().get(self._service)
        return (
            container is not None
            and docker.run(["docker", "inspect", "-f", "{{.State.Running}}", container]).strip() == "true"
        )

    async def start(self) -> None:
        container = await asyncio.to_thread(self._lab.container, self._service)
        await asyncio.to_thread(docker.run, ["docker", "start", container])
        await self._lab.wait_ready(self._service)
        if self._name == TRUNK:
            # Its address may be a new one, and Asterisk has the trunk's address from when it read the file.
            asterisk = await asyncio.to_thread(self._lab.container, "asterisk")
            await asyncio.to_thread(docker.run, ["docker", "exec", asterisk, "configure"])
            await self._lab.cli("module reload res_pjsip.so")

    async def stop(self) -> None:
        if container := (await asyncio.to_thread(self._lab.containers)).get(self._service):
            await asyncio.to_thread(docker.run, ["docker", "stop", "-t", "3", container])

    def last_lines(self) -> str:
        return self._lab.last_lines(self._service)


def service_of(phone: str) -> str:
    """Return the service of compose.yaml that is a phone."""
    return phone if phone == TRUNK else f"phone-{phone}"


def _state(container: str) -> str:
    """Return `READY`, or what else a container is.

    Its health check is run immediately instead of waiting for Docker to run it, which it does every few seconds.
    """
    text = docker.run(["docker", "inspect", "-f", "{{.State.Status}} {{json .Config.Healthcheck.Test}}", container])
    status, _, check = text.strip().partition(" ")
    if status != "running":
        return status
    kind, *command = json.loads(check)
    line = ["sh", "-c", *command] if kind == "CMD-SHELL" else command
    return READY if docker.succeeds(["docker", "exec", container, *line]) else "not healthy"


_: type[PhonePlace] = _Place
