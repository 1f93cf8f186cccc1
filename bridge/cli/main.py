"""The command line: ``asterisk-bridge serve | check | doctor | call | token``.

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
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr, ValidationError

from bridge import __version__, logs
from bridge.access import SCOPES
from bridge.app.reloading import Reloading
from bridge.app.where import say_token
from bridge.config import SECTIONS, TABLES, Config, TokenConfig, each_error, host_and_port, load
from bridge.config.contradictions import token_contradictions
from bridge.config.initial_token import existing_token, needs_token, token_file, with_token
from bridge.config.tokens import HASH_PREFIX
from bridge.errors import ConfigError
from bridge.flows.configured import flows_of
from bridge.masking import MASK, mask, mask_command, mask_url
from bridge.media.pauses import exempt_from_collection, shorten_switches
from bridge.streams.subscription import routes_of, subscriptions_of
from bridge.validation import explain

log = logging.getLogger("bridge.cli")


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command and give its exit code."""
    options = _parser().parse_args(arguments)
    environ = os.environ if environ is None else environ
    try:
        if options.command == "call":
            return _call(options, environ)
        if options.command == "token":
            return _create_token(options)
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

    @property
    def http_port(self) -> int:
        """The port that applications connect to."""

    async def reload(self, config: Config) -> None:
        """Take over what can change while it runs: tokens, and the files of the port's TLS."""

    async def start(self) -> None:
        """OSError: a port cannot be bound."""

    async def stop(self) -> None:
        """Let go of everything."""

    def abandon(self) -> None:
        """The process is about to end at once."""


async def serve(
    config: Config,
    service: Callable[[], Service] | None = None,
    *,
    read: Callable[[], Config] | None = None,
    token: Path | None = None,
) -> int:
    """Run the bridge until SIGTERM or SIGINT; a second signal ends it at once. SIGHUP reads the configuration again.

    Args:
        service: makes what is run; None: the whole bridge in this process.
        read: reads the configuration again; None: SIGHUP changes nothing.
        token: the file of the token that the first start has created, if that is the one in use.
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
    reloading = Reloading(bridge, read)
    loop.add_signal_handler(signal.SIGHUP, reloading.begin)
    starting = asyncio.create_task(bridge.start())
    waiting = asyncio.create_task(stopping.wait())
    ended = bridge.ended or asyncio.Event()
    ending = asyncio.create_task(ended.wait())
    try:
        # A signal must also end a start that hangs.
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            exempt_from_collection()
            bridge.say_where()
            reloading.start()
            if token is not None:
                say_token(config, bridge.http_port, token)
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
        return 1 if ended.is_set() else 0
    except OSError as problem:
        print(f"asterisk-bridge: {explain_bind_error(problem, config)}", file=sys.stderr)
        return 1
    finally:
        reloading.stop()
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
    token = token_file(config, environ) if needs_token(config) and not options.worker else None
    config = with_token(config, environ)

    def read() -> Config:
        return with_token(load(path, environ), environ)

    if options.worker:
        logs.set_up(config.log, worker=options.worker)
        return _carry(serve(config, lambda: _worker(config, options), read=read), config)
    logs.set_up(config.log)
    if config.workers.count > 1:
        return asyncio.run(serve(config, lambda: _supervisor(config, path, environ), read=read, token=token))
    return _carry(serve(config, lambda: _alone(config), read=read, token=token), config)


def _carry(serving: Coroutine[None, None, int], config: Config) -> int:
    """Serve on the loop that is made for frames."""
    from bridge.media.loop import FrameLoop
    from bridge.media.memory import return_large_blocks

    return_large_blocks()
    shorten_switches()
    with asyncio.Runner(loop_factory=lambda: FrameLoop(config.media.coalesce_ms)) as runner:
        return runner.run(serving)


# The other commands start faster without these imports.


def _alone(config: Config) -> Service:
    from bridge.app.alone import Alone

    return Alone(config)


def _worker(config: Config, options: argparse.Namespace) -> Service:
    from bridge.workers.worker import Worker

    return Worker(config, options.worker, options.control, options.http_port)


def _supervisor(config: Config, path: Path | None, environ: Mapping[str, str]) -> Service:
    from bridge.workers.supervisor import Supervisor

    return Supervisor(config, path, environ)


def _call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from bridge.cli import call as dialer  # only this command needs it

    # The configuration may be on another machine: only who gives none of its own needs to be told where the bridge is.
    config = load(options.config, environ) if options.config else Config()
    # The variables are those of the examples, and `./lab env` sets them. What is given by hand wins.
    url = options.url or (dialer.base_url(config) if options.config else environ.get("BRIDGE_URL"))
    configured = [token.get_secret_value() for token in config.http.tokens]
    # The token of the first start is for the bridge of this machine, and not for any other server.
    own = not url or (options.config and not options.url) or dialer.is_local(url)
    configured = configured or [existing_token(config, environ) if own else ""]
    try:
        token = options.token or _token_in(options.token_file)
        token = token or ("" if options.config else environ.get("BRIDGE_TOKEN", "")) or configured[0]
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


def _token_in(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as problem:
        raise ValueError(f"{path}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None


def _create_token(options: argparse.Namespace) -> int:
    """Print a new token, and the table that lets it in."""
    from bridge.api.tokens import hash_of, new_token  # only this command needs it

    token = new_token()
    table: dict[str, object] = {
        "id": options.id,
        "hash": HASH_PREFIX + hash_of(token),
        "scopes": tuple(dict.fromkeys(options.scope)),
    }
    table |= {"expires": options.expires} if options.expires else {}
    for key in ("extensions", "trunks", "conferences", "caller_ids"):
        table |= {key: tuple(getattr(options, key))} if getattr(options, key) else {}
    table |= {"max_calls": options.max_calls} if options.max_calls else {}
    try:
        checked = TokenConfig.model_validate(table)
    except ValidationError as problem:
        raise ConfigError(*next(explain(problem, TokenConfig, described=True))) from None
    for error in token_contradictions(Config(tokens=(checked,))):
        raise error
    lines = [f"{key} = {_toml(value)}" for key, value in table.items()]
    print("# The token. It is shown only now; give it to the application:")
    print(f"# {token}")
    print("# For the configuration file; SIGHUP makes a running bridge read it:")
    print("\n".join(["[[tokens]]", *lines]))
    return 0


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
    call.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file with its token; without it: --config, or $BRIDGE_TOKEN"
    )
    call.add_argument("--token", help="its token; other users of this machine can see it in the list of processes")
    call.add_argument(
        "--config", type=Path, metavar="FILE", help="the bridge's TOML file, which has its address and token"
    )
    token = commands.add_parser("token", help="create tokens for applications", description="Create tokens.")
    create = token.add_subparsers(dest="verb", required=True, metavar="create").add_parser(
        "create",
        help="print a new token, and the table that lets it in",
        description="Print a new token, and the [[tokens]] table that lets it in. Nothing is stored.",
    )
    create.add_argument("--id", required=True, help="its name in logs and lists, for example crm")
    create.add_argument(
        "--scope", action="append", required=True, choices=sorted(SCOPES), help="may be given repeatedly"
    )
    create.add_argument("--expires", metavar="TIME", help="for example 2027-01-31T00:00:00Z; without it: never")
    for option, meaning in (
        ("--extensions", "reaches only calls with these extensions"),
        ("--trunks", "reaches only calls with these trunks"),
        ("--conferences", "reaches only these conferences"),
        ("--caller-ids", "numbers that calls may show"),
    ):
        create.add_argument(option, action="append", default=[], metavar="PATTERN", help=meaning)
    create.add_argument("--max-calls", type=int, default=0, help="calls originated with it that may be up at once")
    return parser


def _shown(key: str, value: object) -> object:
    if key == "command" and isinstance(value, tuple):
        return mask_command(value)
    if key in ("actions", "options"):
        return mask(value, key)
    return mask_url(value) if isinstance(value, str) else value


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
