"""The command line: ``asterisk-bridge serve | check | doctor | call | try | token``.

Exit codes: 0 success, 1 failure (a port is in use, a check failed), 2 invalid configuration or arguments.

Each command imports what it needs when it runs: ``check`` needs neither the server nor the audio path.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge import __version__
from bridge.access import SCOPES
from bridge.errors import ConfigError
from bridge.trial import CHECKS

if TYPE_CHECKING:
    from bridge.config import Config


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the arguments after the program's name; None: ``sys.argv``.
        environ: environment variables; None: ``os.environ``.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    try:
        return _run(options, os.environ if environ is None else environ)
    except ConfigError as problem:
        from bridge.config import each_error

        for error in each_error(problem):
            print(f"asterisk-bridge: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.command == "call":
        from bridge.cli import call

        gc.enable()
        return call.run(options, environ)
    if options.command == "try":
        from bridge.cli import try_application

        return try_application.run(options)
    if options.command == "token":
        from bridge.cli import token

        return token.create(options)
    config = _load(options.config, environ)
    if options.command == "check":
        from bridge.cli import check

        return check.run(config)
    if options.command == "doctor":
        return _examine(config, options.config)
    from bridge.tls import without_system_authorities

    with without_system_authorities():
        import aiohttp  # noqa: F401
    from bridge.cli import serve

    return serve.run(options, config, environ)


def _load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Load the configuration, including the tables that only higher layers can validate; report all mistakes."""
    from bridge.config import ConfigErrors, each_error, load

    config = load(path, environ)
    checks: list[Callable[[Config], object]] = []
    if config.subscriptions or config.dialplan:
        from bridge.streams.subscription import routes_of, subscriptions_of

        checks += [subscriptions_of, routes_of]
    if config.flows:
        from bridge.flows.flow_config import flows_of

        checks.append(flows_of)
    errors: list[ConfigError] = []
    for check in checks:
        try:
            check(config)
        except ConfigError as problem:
            errors += each_error(problem)
    if errors:
        raise errors[0] if len(errors) == 1 else ConfigErrors(errors)
    return config


def _examine(config: Config, path: Path | None) -> int:
    import asyncio

    from bridge import doctor, logs

    # The findings are complete; the log is only shown with level "debug".
    quiet = config.log if config.log.level == "debug" else config.log.model_copy(update={"level": "error"})
    logs.set_up(quiet)
    gc.enable()
    return asyncio.run(doctor.run(config, path))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asterisk-bridge", description="Carries live call audio between Asterisk and WebSocket applications."
    )
    parser.add_argument("--version", action="version", version=f"asterisk-bridge {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in (
        ("serve", "run asterisk-bridge"),
        ("check", "check the configuration and print the effective values"),
        ("doctor", "check Asterisk, the network to it, and this machine"),
    ):
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        command.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="TOML file; without it: defaults and ASTERISK_BRIDGE_* variables",
        )
        command.set_defaults(worker=0)
        if name == "serve":
            command.add_argument(
                "--standby",
                action="store_true",
                help="wait until the instance that uses the same state file has ended, then take its calls over",
            )
            # With [workers], the supervisor starts the workers so:
            command.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
            command.add_argument("--control", type=Path, help=argparse.SUPPRESS)
            command.add_argument("--http-port", type=int, default=0, help=argparse.SUPPRESS)
    call = commands.add_parser(
        "call",
        help="create a call on a running instance, and report its progress",
        description="Create a call on a running instance, and report its progress until it ends. Ctrl-C hangs up."
        " Exit code: 0 if a party answered, 1 if not, 2 for invalid arguments.",
        epilog="Without --talk, --play, --actions or --flow, a greeting is played.",
    )
    call.add_argument("destination", nargs="+", help="1001, +493012345, tel:..., sip:user@host, conference:name")
    call.add_argument("--from", dest="source", metavar="NUMBER", help="the caller ID to show")
    call.add_argument("--talk", action="append", default=[], metavar="TEXT", help="speak this; may be given repeatedly")
    call.add_argument("--play", action="append", default=[], metavar="URL", help="play this sound, after --talk")
    what = call.add_mutually_exclusive_group()
    what.add_argument("--actions", type=Path, metavar="FILE", help="JSON file with the actions to run")
    what.add_argument("--flow", metavar="ID", help="run this configured flow")
    call.add_argument(
        "--first", action="store_true", help="with several destinations: keep only the first call that is answered"
    )
    call.add_argument("--url", help="HTTP address of asterisk-bridge; without it: --config, or $BRIDGE_URL")
    call.add_argument(
        "--ca-file",
        type=Path,
        metavar="FILE",
        help="PEM file with the authority of its certificate; without it: the certificate in --config, or the"
        " system's authorities",
    )
    call.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file with its token; without it: --config, or $BRIDGE_TOKEN"
    )
    call.add_argument("--token", help="its token; other users of this machine can see it in the list of processes")
    call.add_argument(
        "--config", type=Path, metavar="FILE", help="the instance's TOML file, which has its address and token"
    )
    trial = commands.add_parser(
        "try",
        help="test a voice application with a scripted caller, without a PBX",
        description="Connect to a voice application as a call does: wait for its greeting, speak, interrupt its answer,"
        " send DTMF digits, hang up. Prints the exchange and a verdict. Exit code: 0 if no check failed, 1 if any"
        " failed, 2 for invalid arguments.",
    )
    trial.add_argument("url", help="the application's address: ws:// or wss://")
    trial.add_argument("--dialect", required=True, help="name of the wire format")
    trial.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the dialect, for example rate=16000",
    )
    trial.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="header of the handshake")
    trial.add_argument("--token-file", type=Path, metavar="FILE", help="file with a token for the Authorization header")
    trial.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM file with the authority of its certificate")
    speech = trial.add_mutually_exclusive_group()
    speech.add_argument("--play", type=Path, metavar="FILE", help="the caller's speech: a WAV, FLAC, Ogg or MP3 file")
    speech.add_argument(
        "--say",
        metavar="TEXT",
        help="the caller's speech, for espeak-ng; default: a sentence, or a tone without espeak-ng",
    )
    trial.add_argument("--digits", default="5", metavar="DIGITS", help="DTMF digits that the caller sends; default: 5")
    trial.add_argument(
        "--answer-within", type=float, default=5.0, metavar="SECONDS", help="limit for each response; default: 5"
    )
    trial.add_argument("--caller", default="1001", metavar="NUMBER", help="the caller's number; default: 1001")
    trial.add_argument("--callee", default="750", metavar="NUMBER", help="the called number; default: 750")
    trial.add_argument(
        "--skip", action="append", default=[], choices=CHECKS, help="this check does not count; may be given repeatedly"
    )
    trial.add_argument("--quiet", action="store_true", help="print the verdict only")
    token = commands.add_parser("token", help="create tokens for applications", description="Create tokens.")
    create = token.add_subparsers(dest="verb", required=True, metavar="create").add_parser(
        "create",
        help="print a new token, and its table for the configuration",
        description="Print a new token, and its [[tokens]] table for the configuration. Nothing is stored.",
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
        ("--caller-ids", "caller IDs that calls may show"),
    ):
        create.add_argument(option, action="append", default=[], metavar="PATTERN", help=meaning)
    create.add_argument("--max-calls", type=int, default=0, help="limit of simultaneous calls created with it")
    return parser
