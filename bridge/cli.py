"""The command line: ``asterisk-bridge serve | check | doctor | call``.

Exit codes: 0 all well, 1 it does not work (a port is taken, a check failed), 2 wrong configuration or arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from bridge import __version__, logs
from bridge.config import SECTIONS, TABLES, Config, each_error, host_and_port, load
from bridge.config.flows import without_secrets
from bridge.errors import ConfigError
from bridge.flows.configured import flows_of
from bridge.streams.subscription import routes_of, subscriptions_of

log = logging.getLogger(__name__)

MASK = "********"


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command and give its exit code."""
    options = _parser().parse_args(arguments)
    environ = os.environ if environ is None else environ
    try:
        if options.command == "call":
            return _call(options, environ)
        config = load(options.config, environ)
        subscriptions_of(config)
        routes_of(config)
        flows_of(config)
        return _run(options, config, environ)
    except ConfigError as problem:
        for error in each_error(problem):
            print(f"asterisk-bridge: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def masked_toml(config: Config) -> str:
    """The effective configuration as TOML, every secret replaced by asterisks."""
    lines = []
    for section in SECTIONS:
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in getattr(config, section)]
        lines.append("")
    for name in TABLES:
        for table in getattr(config, name):
            lines.append(f"[[{name}]]")
            lines += [f"{key} = {_toml(_shown(key, value))}" for key, value in table if value is not None]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


class Service(Protocol):
    """What ``serve`` runs: a bridge, one worker of it, or their supervisor."""

    @property
    def ended(self) -> asyncio.Event | None:
        """Set when it cannot go on; None: it always can."""

    def say_where(self) -> None:
        """Log where it listens."""

    async def start(self) -> None:
        """OSError: a port cannot be bound."""

    async def stop(self) -> None:
        """Let go of everything."""

    def abandon(self) -> None:
        """The process is about to end at once."""


async def serve(config: Config, service: Callable[[], Service] | None = None) -> int:
    """Run the bridge until SIGTERM or SIGINT; a second signal ends it at once.

    Args:
        service: makes what is run; None: the whole bridge in this process.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop(number: int) -> None:
        if stopping.is_set():
            log.warning("second signal: stopping at once")
            bridge.abandon()
            os._exit(128 + number)
        log.info("stopping on %s; once more to stop at once", signal.Signals(number).name)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    bridge = service() if service else _alone(config)
    starting = asyncio.create_task(bridge.start())
    waiting = asyncio.create_task(stopping.wait())
    ended = bridge.ended or asyncio.Event()
    ending = asyncio.create_task(ended.wait())
    try:
        # A signal must also end a start that hangs.
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            bridge.say_where()
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
        return 1 if ended.is_set() else 0
    except OSError as problem:
        print(f"asterisk-bridge: {explain_bind_error(problem, config)}", file=sys.stderr)
        return 1
    finally:
        starting.cancel()
        waiting.cancel()
        ending.cancel()
        await asyncio.wait({starting, waiting, ending})
        await bridge.stop()
        log.info("stopped")


def explain_bind_error(problem: OSError, config: Config) -> str:
    """One line saying which port could not be opened, why, and what to do."""
    text = problem.strerror or str(problem)
    if isinstance(problem, socket.gaierror):
        return f"http.host or audiosocket.bind_host: {config.http.host!r} or {config.audiosocket.bind_host!r}: {text}"
    # asyncio says which address it was in the text only: "... bind on address ('127.0.0.1', 8080): ..."; for one that
    # is no address of this machine, Python 3.13 says "could not bind on any address out of [('192.0.2.1', 0)]".
    found = re.search(r"address(?: out of \[|) ?\('([^']*)', ([0-9]+)", text)
    elsewhere = problem.errno == errno.EADDRNOTAVAIL or "could not bind on any address" in text
    address = (found[1], int(found[2])) if found else None
    for section, host, port in (
        ("http", config.http.host, config.http.port),
        ("audiosocket", config.audiosocket.bind_host, config.audiosocket.bind_port),
    ):
        host_key, port_key = ("host", "port") if section == "http" else ("bind_host", "bind_port")
        if address is None or address[1] != port:
            continue
        where = host_and_port(address[0], port)
        if problem.errno == errno.EADDRINUSE:
            return (
                f"{section}.{port_key}: {where} is already in use; stop the program that holds it or set another port"
            )
        if problem.errno == errno.EACCES:
            return f"{section}.{port_key}: no permission to listen on {where}; ports below 1024 need a privilege"
        if elsewhere:
            return f"{section}.{host_key}: {host!r} is no address of this machine"
        return f"{section}.{port_key}: cannot listen on {where}: {text}"
    return f"cannot start: {text}"


def _run(options: argparse.Namespace, config: Config, environ: Mapping[str, str]) -> int:
    command, path = options.command, options.config
    if command == "check":
        print(masked_toml(config), end="")
        return 0
    if command == "doctor":
        from bridge import doctor  # only this command needs it

        # The findings say it all; only who asks for "debug" wants the log as well.
        quiet = config.log if config.log.level == "debug" else config.log.model_copy(update={"level": "error"})
        logs.set_up(quiet)
        return asyncio.run(doctor.run(config, path))
    if options.worker:
        logs.set_up(config.log, worker=options.worker)
        return asyncio.run(serve(config, lambda: _worker(config, options)))
    logs.set_up(config.log)
    if config.workers.count > 1:
        return asyncio.run(serve(config, lambda: _supervisor(config, path, environ)))
    return asyncio.run(serve(config))


# The other commands start faster without these imports.


def _alone(config: Config) -> Service:
    from bridge.alone import Alone

    return Alone(config)


def _worker(config: Config, options: argparse.Namespace) -> Service:
    from bridge.workers.worker import Worker

    return Worker(config, options.worker, options.control, options.http_port)


def _supervisor(config: Config, path: Path | None, environ: Mapping[str, str]) -> Service:
    from bridge.workers.supervisor import Supervisor

    return Supervisor(config, path, environ)


def _call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from bridge import dialer  # only this command needs it

    # The configuration may be on another machine: only who gives none of its own needs to be told where the bridge is.
    config = load(options.config, environ) if options.config else Config()
    tokens = [token.get_secret_value() for token in config.http.tokens]
    # The variables are those of the examples, and `./lab env` sets them. What is given by hand wins.
    url = options.url or (dialer.base_url(config) if options.config else environ.get("BRIDGE_URL"))
    token = options.token or next(iter(tokens), "" if options.config else environ.get("BRIDGE_TOKEN", ""))
    try:
        if (options.talk or options.play) and (options.actions or options.flow):
            raise ValueError("--talk and --play are a flow of their own; give them, or --actions, or --flow")
        body: dict[str, object] = {"destinations": [dialer.address(text) for text in options.destination]}
        if options.source:
            body["source"] = dialer.address(options.source)
        if options.flow:
            body["flow_id"] = options.flow
        else:
            body["actions"] = dialer.actions_of(options.talk, options.play, options.actions)
    except ValueError as problem:
        print(f"asterisk-bridge: {problem}", file=sys.stderr)
        return 2
    if len(options.destination) > 1 and options.first:
        body["answer_method"] = "hangup_others"
    try:
        return asyncio.run(dialer.Dialer(url or dialer.base_url(config), token).run(body))
    except dialer.CallFailed as problem:
        print(f"asterisk-bridge: {problem}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asterisk-bridge", description="Carries live call audio between Asterisk and WebSocket applications."
    )
    parser.add_argument("--version", action="version", version=f"asterisk-bridge {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in (
        ("serve", "run the bridge"),
        ("check", "check the configuration and print what is in effect"),
        ("doctor", "check Asterisk, the network between it and the bridge, and this machine"),
    ):
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        command.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="TOML file; without it: defaults and ASTERISK_BRIDGE_* variables",
        )
        command.set_defaults(worker=0)
        if name == "serve":  # with [workers], the supervisor starts the workers so
            command.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
            command.add_argument("--control", type=Path, help=argparse.SUPPRESS)
            command.add_argument("--http-port", type=int, default=0, help=argparse.SUPPRESS)
    call = commands.add_parser(
        "call",
        help="have a running bridge place a call, and tell how it goes",
        description="Have a running bridge place a call, and tell how it goes until it is over. Ctrl-C hangs up."
        " Exit code: 0 if somebody answered, 1 if not, 2 for wrong arguments.",
        epilog="Without --talk, --play, --actions or --flow whoever answers hears a greeting.",
    )
    call.add_argument("destination", nargs="+", help="1001, +493012345, tel:..., sip:user@host, conference:name")
    call.add_argument("--from", dest="source", metavar="NUMBER", help="the number that the phone shows")
    call.add_argument("--talk", action="append", default=[], metavar="TEXT", help="say this; may be given repeatedly")
    call.add_argument("--play", action="append", default=[], metavar="URL", help="play this sound, after what is said")
    what = call.add_mutually_exclusive_group()
    what.add_argument("--actions", type=Path, metavar="FILE", help="JSON file with the actions to run")
    what.add_argument("--flow", metavar="ID", help="run this flow of the bridge's configuration")
    call.add_argument(
        "--first", action="store_true", help="with several destinations: the first to answer gets the call"
    )
    call.add_argument("--url", help="the bridge's HTTP address; without it: --config, or $BRIDGE_URL")
    call.add_argument("--token", help="one of its http.tokens; without it: --config, or $BRIDGE_TOKEN")
    call.add_argument(
        "--config", type=Path, metavar="FILE", help="the bridge's TOML file, which has its address and token"
    )
    return parser


def _shown(key: str, value: object) -> object:
    return without_secrets(value, MASK) if key == "actions" else value


def _toml(value: object) -> str:
    if isinstance(value, SecretStr):
        return _toml(MASK if value.get_secret_value() else "")
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, list):
        return _toml(tuple(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    # A JSON string is a TOML string, DEL aside. Numbers are the same in both, and dates (only in options) become texts.
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")
