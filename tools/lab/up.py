"""Starts and ends everything: Asterisk, phones, the bridge and the applications."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import PHONES, Lab, LabError, free_port
from bridge.testing.processes import BackgroundProgram
from tools.lab import state as states
from tools.lab import talking_agent
from tools.lab.docker_command import docker_answers
from tools.lab.docker_engine import DockerLab
from tools.lab.ports import Wanted, check_free
from tools.lab.state import Progress, State

HEALTHY_TIMEOUT_S = 20.0
NOT_RUNNING = "not running"
ECHO_NUMBER = "750"
AGENT_NUMBER = "753"
AGENT = "talking-agent"

CONFIGURATION = """\
# Written by ./lab up.
[http]
host = "{host}"
port = {port}
tokens = ["{token}"]

[audiosocket]
bind_host = "{bind}"
bind_port = {audiosocket_port}
advertised_host = "{advertised}"

[ari]
url = "{ari_url}"
user = "{ari_user}"
password = "{ari_password}"
app = "{ari_app}"

[outbound]
allow = ["localhost"]  # applications and flow servers of the lab run on this machine

[streams]
state_file = "{state_file}"

[speech]
command = {speech_command}

[calling]
tel_endpoint = "PJSIP/{{number}}@trunk-a"
sip_endpoint = "PJSIP/sip-out/{{uri}}"
sip_hosts = ["127.0.0.1"]
caller_id = "750"
context = "media-tap"
"""
AGENT_ROUTE = """
[[dialplan]]
id = "{name}"
match = "{number}"
url = "ws://127.0.0.1:{port}"
dialect = "openai_realtime"
then = "hangup"

[dialplan.agent]
greeting = "Hello. How can I help you?"
tools = ["hang_up"]
"""


def choose_engine(wanted: str | None) -> str:
    """Return the engine to use: the wanted one, else docker if its daemon answers, else embedded."""
    return wanted or ("docker" if docker_answers() else "embedded")


async def up(state: State, progress: Progress) -> Lab:
    """Bring up what is not up yet and wait until it is healthy.

    Raises:
        LabError: a port is in use, or a part does not start; the message has the end of its log.
    """
    lab = states.lab_of(state, progress)
    if isinstance(lab, EmbeddedLab):
        await _up_embedded(lab, state, progress)
    else:
        if not is_up(state):
            check_free(state.settings.host, _wanted_ports(state)[:4])
        states.save(state)
        await lab.start()
    progress("starting the phones")
    await asyncio.gather(*(lab.phone(name).start() for name in PHONES))
    await _healthy(state, lab)
    return lab


async def down(*, keep: bool) -> None:
    """End everything and remove what it left.

    Args:
        keep: leave logs and recordings.
    """
    state = states.load()
    folder = states.folder()
    if not folder.exists():
        return
    if state is None or state.engine == "embedded":
        for name in (AGENT, "echo", "bridge"):
            await _program(name).stop()
    if state is not None:
        lab = states.lab_of(state, print)
        await lab.stop()
    if keep:
        (folder / "state.json").unlink(missing_ok=True)
        (folder / "bridge.toml").unlink(missing_ok=True)
        shutil.rmtree(folder / "run", ignore_errors=True)
        shutil.rmtree(folder / "asterisk", ignore_errors=True)
    else:
        shutil.rmtree(folder)


def is_up(state: State) -> bool:
    """Return whether anything of a remembered lab runs."""
    return any(words != NOT_RUNNING for words in programs(state).values())


def programs(state: State) -> dict[str, str]:
    """Return each part of the lab and whether it runs, in words."""
    lab = states.lab_of(state, print)
    if isinstance(lab, DockerLab):
        return dict.fromkeys(lab.containers(), "a container")
    names = ["asterisk", *(f"phone-{name}" for name in PHONES), "bridge", "echo", AGENT]
    found = {name: _program(name).pid for name in names}
    return {name: f"process {pid}" if pid else NOT_RUNNING for name, pid in found.items()}


def echo_folder() -> Path:
    """Return the folder where the echo application records."""
    return states.folder() / "echo"


async def _up_embedded(lab: EmbeddedLab, state: State, progress: Progress) -> None:
    if not lab.running:
        check_free(state.settings.host, _wanted_ports(state))
        progress("starting Asterisk")
        states.save(state)
        await lab.start()
    bridge = _program("bridge")
    if bridge.pid is None:
        route = await _start_agent(lab, progress)
        progress("starting the bridge and the echo application")
        file = states.folder() / "bridge.toml"
        file.touch(mode=0o600)
        file.write_text(
            CONFIGURATION.format(
                host=state.settings.host,
                port=state.bridge_port,
                token=state.token,
                bind=lab.audiosocket_bind,
                audiosocket_port=lab.audiosocket_port,
                advertised=lab.audiosocket_host,
                ari_url=lab.ari_url,
                ari_user=lab.ari_user,
                ari_password=lab.ari_password,
                ari_app=lab.ari_app,
                state_file=states.folder() / "subscriptions.sqlite3",
                speech_command=json.dumps(lab.speech_command),  # a list of texts looks the same in TOML
            )
            + route
        )
        # The file is the whole truth: settings that the user's environment holds for another bridge do not count.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ASTERISK_BRIDGE_")}
        bridge.start(
            [sys.executable, "-P", "-m", "bridge", "serve", "--config", str(file)], outlive_us=True, environ=environ
        )
    echo = _program("echo")
    if echo.pid is None:
        echo.start(
            [
                sys.executable,
                str(states.home() / "examples" / "echo.py"),
                *("--url", state.bridge_url),
                *("--number", ECHO_NUMBER),
                *("--delay-ms", str(state.echo_delay_ms)),
                *("--record", str(echo_folder())),
            ],
            outlive_us=True,
            environ={**os.environ, "BRIDGE_TOKEN": state.token},
        )


async def _start_agent(lab: EmbeddedLab, progress: Progress) -> str:
    """Start the talking agent, and return its route; without its recognizer there is none."""
    try:
        environ = await asyncio.to_thread(talking_agent.environment)
    except LabError as error:
        progress(f"no talking agent on {AGENT_NUMBER}: {error}")
        return ""
    port = free_port()
    agent = _program(AGENT)
    await agent.stop()  # of a bridge that has ended
    agent.start(talking_agent.command(port, lab.speech_command), outlive_us=True, environ=environ)
    return AGENT_ROUTE.format(name=AGENT, number=AGENT_NUMBER, port=port)


def _wanted_ports(state: State) -> list[Wanted]:
    s = state.settings
    tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
    wanted = [
        Wanted(state.bridge_port, tcp, "the bridge's HTTP", "--http-port"),
        Wanted(s.audiosocket_port, tcp, "the bridge's AudioSocket", "--audiosocket-port"),
        Wanted(s.http_port, tcp, "Asterisk's ARI", "--ari-port"),
        Wanted(s.sip_port, udp, "SIP", "--sip-port"),
    ]
    for index, name in enumerate(PHONES):
        first = s.phone_ports + 8 * index
        wanted += [
            Wanted(first, udp, f"phone {name}", "--phone-ports"),
            Wanted(first + 2, tcp, f"phone {name}", "--phone-ports"),
        ]
    return wanted


def _program(name: str) -> BackgroundProgram:
    run, logs = states.folder() / "run", states.folder() / "logs"
    run.mkdir(parents=True, exist_ok=True)
    logs.mkdir(parents=True, exist_ok=True)
    return BackgroundProgram(name, run, logs / f"{name}.log")


async def _healthy(state: State, lab: Lab) -> None:
    deadline = time.monotonic() + HEALTHY_TIMEOUT_S
    while (problem := await asyncio.to_thread(_bridge_problem, state)) is not None:
        if lab.name == "embedded" and _program("bridge").pid is None:
            raise LabError(f"the bridge ended; its log ends:\n{_program('bridge').last_lines()}")
        if time.monotonic() > deadline:
            raise LabError(
                f"the bridge is not healthy after {HEALTHY_TIMEOUT_S:.0f} s: {problem}; see ./lab logs bridge"
            )
        await asyncio.sleep(0.05)
    if lab.name == "embedded" and _program("echo").pid is None:
        raise LabError(f"the echo application ended; its log ends:\n{_program('echo').last_lines()}")


def _bridge_problem(state: State) -> str | None:
    try:
        with urllib.request.urlopen(f"{state.bridge_url}/health", timeout=2):
            return None
    except (urllib.error.URLError, OSError) as error:
        return str(error)
