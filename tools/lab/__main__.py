"""The commands of ``./lab``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from bridge.errors import BridgeError
from bridge.testing import lab as lab_module
from bridge.testing.lab_engine import PHONES, LabError, LabSettings
from tools.lab import echo_call, phone_command, suite, up
from tools.lab import state as states
from tools.lab.docker_engine import DockerLab
from tools.lab.state import ENGINES, State

DOWN_HINT = "./lab down ends it; ./lab help lists the other commands"


def main() -> int:
    """Run one command and return its exit code."""
    parser = make_parser()
    options, rest = parser.parse_known_args()
    if rest and options.command not in PASSED_ON:
        parser.error(f"unknown argument {rest[0]}")
    options.passed_on = rest
    try:
        if options.command in PASSED_ON:
            return PASSED_ON[options.command](options)
        return asyncio.run(COMMANDS[options.command](options))
    except BridgeError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; ./lab down ends what is up", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; ``help.txt`` is what ``./lab help`` prints."""
    parser = argparse.ArgumentParser(prog="./lab", add_help=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    engine = argparse.ArgumentParser(add_help=False)
    engine.add_argument("--engine", choices=ENGINES, help="what runs the lab (default: docker if it answers)")
    start = commands.add_parser("up", parents=[engine], help="start everything, dial a call, stay up")
    defaults = LabSettings()
    for option, default, use in (
        ("--http-port", 8080, "the bridge's HTTP"),
        ("--audiosocket-port", defaults.audiosocket_port, "the bridge's AudioSocket"),
        ("--ari-port", defaults.http_port, "Asterisk's ARI"),
        ("--sip-port", defaults.sip_port, "SIP"),
        ("--phone-ports", defaults.phone_ports, "the first of the 32 ports of the softphones"),
    ):
        start.add_argument(option, type=int, metavar="PORT", help=f"{use} (default: {default})")
    start.add_argument("--echo-delay-ms", type=int, metavar="MS", help="how late the echo comes (default: 500)")
    start.add_argument(
        "--asterisk",
        type=_prefix,
        metavar="PREFIX",
        help="installation prefix of the Asterisk to run, such as /usr or /opt/asterisk (default: Debian's, fetched)",
    )
    commands.add_parser("call", help="dial the call again")
    logs = commands.add_parser("logs", help="show the end of a log, or list the logs")
    logs.add_argument("name", nargs="?", help="asterisk, bridge, echo, phone-1001 ...")
    logs.add_argument("-f", "--follow", action="store_true", help="keep showing what is added")
    logs.add_argument("-n", "--lines", type=int, default=100, help="how many lines (default: %(default)s)")
    end = commands.add_parser("down", help="end everything and remove what it left")
    end.add_argument("--keep", action="store_true", help="keep logs and recordings in .lab")
    commands.add_parser("status", help="show what runs")
    commands.add_parser("env", help="print addresses, ports and the token as shell variables")
    test = commands.add_parser("test", parents=[engine], help="run the tests; further arguments go to pytest")
    test.add_argument("--quick", action="store_true", help="run what answers within two minutes")
    test.add_argument("--logs", type=Path, metavar="FOLDER", help="where the logs of all parts go")
    commands.add_parser(
        "bench",
        add_help=False,
        help="measure what a call costs beside other bridges; --quick takes 2 minutes, --help lists what it takes",
    )
    commands.add_parser(
        "soak", add_help=False, help="calls for hours, their audio judged; --minutes N --calls N, --help lists the rest"
    )
    phone = commands.add_parser("phone", help="drive a softphone by hand")
    phone.add_argument("name", choices=PHONES, metavar="PHONE", help=", ".join(PHONES))
    phone.add_argument("verb", choices=("call", "answer"))
    phone.add_argument("number", nargs="?", help="number to call")
    speech = phone.add_mutually_exclusive_group()
    speech.add_argument("--play", type=Path, metavar="WAV", help="audio to play (default: nothing)")
    sentence = f"a sentence to speak {phone_command.GREETING_S:.0f} s after the answer; may be given repeatedly"
    speech.add_argument("--say", action="append", default=[], metavar="TEXT", help=sentence)
    phone.add_argument("--record", type=Path, metavar="WAV", help="file for the received audio")
    phone.add_argument("--dtmf", default="", metavar="DIGITS", help="DTMF digits, sent one second after the answer")
    phone.add_argument(
        "--seconds", type=float, help="length of the call (default: until shortly after the audio, else 10)"
    )
    commands.add_parser("setup", help="build the Python environment in .venv, which the others do as needed")
    return parser


async def run_up(options: argparse.Namespace) -> int:
    """``./lab up``."""
    began = time.monotonic()
    state = states.load()
    if state is None or not up.is_up(state):
        state = _new_state(options)
    elif different := _different(state, options):
        raise LabError(f"the lab is up with another {different}; end it first: ./lab down")
    progress(f"lab: engine {state.engine}")
    lab = await up.up(state, progress)
    progress(f"all healthy after {time.monotonic() - began:.1f} s; dialing a call")
    report = await echo_call.place_call(lab, state)
    for name in PHONES:
        await lab.phone(name).release()
    print(f"\nThe lab is up ({state.engine}). A real call went through the bridge:\n")
    print(echo_call.in_words(report, state))
    print(_what_next(state))
    return 0 if report.good else 1


async def run_call(_: argparse.Namespace) -> int:
    """``./lab call``."""
    state = states.loaded()
    lab = states.lab_of(state, progress)
    report = await echo_call.place_call(lab, state)
    await lab.phone(echo_call.CALLER).release()
    print(echo_call.in_words(report, state))
    return 0 if report.good else 1


async def run_logs(options: argparse.Namespace) -> int:
    """``./lab logs``."""
    lab = states.lab_of(states.loaded(), progress)
    if isinstance(lab, DockerLab):
        await lab.save_logs()
    names = sorted(file.stem for file in lab.logs.glob("*.log"))
    if options.name is None:
        print("logs: " + " ".join(names))
        return 0
    if options.name not in names:
        raise LabError(f"no log of '{options.name}'; available: {' '.join(names)}")
    follow = ["-F"] if options.follow else []
    process = await asyncio.create_subprocess_exec(
        "tail", "-n", str(options.lines), *follow, str(lab.logs / f"{options.name}.log")
    )
    return await process.wait()


async def run_down(options: argparse.Namespace) -> int:
    """``./lab down``."""
    await up.down(keep=options.keep)
    print("the lab is down" + (f"; logs and recordings are in {states.folder()}" if options.keep else ""))
    return 0


async def run_status(_: argparse.Namespace) -> int:
    """``./lab status``."""
    state = states.load()
    if state is None:
        print("the lab is not up; start it with ./lab up")
        return 1
    print(f"engine {state.engine}, bridge {state.bridge_url}")
    for name, words in up.programs(state).items():
        print(f"  {name:12} {words}")
    return 0


async def run_env(_: argparse.Namespace) -> int:
    """``./lab env``."""
    state = states.loaded()
    lab = states.lab_of(state, progress)
    values = {
        "BRIDGE_URL": state.bridge_url,
        "BRIDGE_WS_URL": "ws" + state.bridge_url.removeprefix("http"),
        "BRIDGE_HTTP_PORT": str(state.bridge_port),
        "BRIDGE_TOKEN": state.token,
        "LAB_ENGINE": state.engine,
        "LAB_SIP": f"{state.settings.host}:{state.settings.sip_port}",
        "LAB_PHONE_PASSWORD": state.settings.phone_password,
        **lab_module.variables(lab),
    }
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")  # exported: the programs that are started then need them
    return 0


async def run_phone(options: argparse.Namespace) -> int:
    """``./lab phone``."""
    if (options.verb == "call") != bool(options.number):
        raise LabError("the number is missing: ./lab phone 1001 call 1002, or ./lab phone 1001 answer")
    print(await phone_command.drive(states.lab_of(states.loaded(), progress), options))
    return 0


async def run_setup(_: argparse.Namespace) -> int:
    """``./lab setup``: the shell script has built the environment already."""
    print(f"the environment is ready: {sys.executable}")
    return 0


def run_tests(options: argparse.Namespace) -> int:
    """``./lab test``: all tests, or what is passed on to pytest; with containers, those that make sense there."""
    os.chdir(states.home())
    # Embedded unless asked otherwise: it is the engine in which every test can look into the bridge.
    arguments = ["--lab-engine", options.engine or ENGINES[0], *options.passed_on]
    if options.engine == "docker":
        arguments += ["-m", "core", "tests/lab"]
    elif options.quick or not options.passed_on:
        return suite.run(suite.QUICK if options.quick else suite.WHOLE, options.passed_on, options.logs)
    return os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])


def run_load(options: argparse.Namespace) -> int:
    """``./lab bench`` and ``./lab soak``: the programs of these names in ``tests/load`` of the checkout."""
    os.chdir(states.home())
    name = options.command
    if not Path("tests/load", name).is_dir():
        raise LabError(f"{name} is in tests/load/{name} of a checkout, and this is none")
    os.execv(sys.executable, [sys.executable, "-m", f"tests.load.{name}", *options.passed_on])


PASSED_ON: Mapping[str, Callable[[argparse.Namespace], int]] = {"test": run_tests, "bench": run_load, "soak": run_load}
"""Commands whose further arguments are another program's."""


def progress(text: str) -> None:
    """Print a progress message."""
    print(text, file=sys.stderr, flush=True)


def _different(state: State, options: argparse.Namespace) -> str:
    """Return the option that differs from the lab that is up; empty if none does."""
    has = {
        "engine": state.engine,
        "http_port": state.bridge_port,
        "audiosocket_port": state.settings.audiosocket_port,
        "ari_port": state.settings.http_port,
        "sip_port": state.settings.sip_port,
        "phone_ports": state.settings.phone_ports,
        "echo_delay_ms": state.echo_delay_ms,
        "asterisk": state.asterisk,
    }
    for name, value in has.items():
        if getattr(options, name) not in (None, value):
            return "--" + name.replace("_", "-")
    return ""


def _new_state(options: argparse.Namespace) -> State:
    settings = LabSettings()
    chosen = {
        "audiosocket_port": options.audiosocket_port,
        "http_port": options.ari_port,
        "sip_port": options.sip_port,
        "phone_ports": options.phone_ports,
    }
    settings = replace(settings, **{name: port for name, port in chosen.items() if port})
    if options.asterisk and options.engine == "docker":
        raise LabError("--asterisk names files of this machine: it needs --engine embedded")
    state = State("embedded" if options.asterisk else up.choose_engine(options.engine), settings)
    state = replace(state, asterisk=options.asterisk or "")
    if options.http_port:
        state = replace(state, bridge_port=options.http_port)
    if options.echo_delay_ms is not None:
        state = replace(state, echo_delay_ms=options.echo_delay_ms)
    return state


def _prefix(text: str) -> str:
    """Return an installation prefix that holds for any working directory."""
    return str(Path(text).expanduser().resolve())


def _what_next(state: State) -> str:
    s = state.settings
    numbers = f"{up.ECHO_NUMBER} the bridge,"
    agent_hint = ""
    if up.programs(state).get(up.AGENT, up.NOT_RUNNING) != up.NOT_RUNNING:
        numbers += f" {up.AGENT_NUMBER} a talking agent,"
        question = f'./lab phone 1001 call {up.AGENT_NUMBER} --say "what are your opening hours"'
        agent_hint = f"Talk to the agent   {question}; ./lab logs {up.AGENT}\n"
    return f"""
Open next           {state.bridge_url}/#token={state.token}
Your own softphone  server {s.host}:{s.sip_port} (UDP), user 1004, password {s.phone_password}; then dial
                    {numbers} 600 echo, 710 IVR, 700 queue, 720 conference, 1002 another phone
{agent_hint}Lab phone           ./lab phone 1001 call 1002 --play in.wav --record out.wav
Your application    eval "$(./lab env)" gives it BRIDGE_URL and BRIDGE_TOKEN
It stays up         {DOWN_HINT}"""


COMMANDS = {
    "up": run_up,
    "call": run_call,
    "logs": run_logs,
    "down": run_down,
    "status": run_status,
    "env": run_env,
    "phone": run_phone,
    "setup": run_setup,
}

if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
