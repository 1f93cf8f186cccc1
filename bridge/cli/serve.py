"""``asterisk-bridge serve``: runs the application, one worker of it, or the supervisor until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from bridge import logs
from bridge.app.addresses import log_token
from bridge.app.preload import preload, preload_for_calls
from bridge.app.reloading import Reloading
from bridge.cli.instance import InstanceRunning, only_instance
from bridge.config import Config, each_error, host_and_port, load
from bridge.config.initial_token import needs_token, token_file, with_token
from bridge.errors import ConfigError
from bridge.media.interpreter_tuning import exempt_from_collection, shorten_switches
from bridge.media.loop import FrameLoop
from bridge.media.memory import return_large_blocks
from bridge.tasks import first_of

log = logging.getLogger("bridge.cli")


class Service(Protocol):
    """The application, one worker of it, or the supervisor."""

    @property
    def ended(self) -> asyncio.Event | None:
        """Set when the service cannot continue; None: it always can."""

    @property
    def settled(self) -> asyncio.Event | None:
        """Set once calls are served, or once calls wait to be served; None: no calls use this process."""

    @property
    def http_port(self) -> int:
        """The port that applications connect to."""

    def log_addresses(self) -> None:
        """Log the ports that the service listens on."""

    async def reload(self, config: Config) -> None:
        """Apply the settings that can change at run time.

        Raises:
            ConfigError: the configuration is invalid; nothing has changed.
        """

    async def start(self) -> None:
        """Open the ports.

        Raises:
            OSError: a port cannot be bound.
        """

    async def drain(self) -> None:
        """Accept nothing new, and return when no call or stream is left, or after ``restart.drain_s``."""

    async def stop(self) -> None:
        """End calls and streams in order, and close the ports."""

    def abandon(self) -> None:
        """Prepare for the process to end immediately."""


def run(options: argparse.Namespace, config: Config, environ: Mapping[str, str]) -> int:
    """Serve until a signal ends the process.

    Args:
        options: arguments of the command.
        config: the checked configuration, without the token of the first start.
        environ: environment variables.

    Returns:
        The exit code.
    """
    path = options.config
    token = token_file(config, environ) if needs_token(config) and not options.worker else None
    config = with_token(config, environ)

    def read() -> Config:
        return with_token(load(path, environ), environ)

    logs.set_up(config.log, worker=options.worker)
    if options.worker:  # its supervisor is the instance
        return _run_on_frame_loop(serve(config, lambda: _bridge(config, options), read=read), config)
    if options.standby:
        _load_all(config)
    try:
        with only_instance(config.streams.state_file, standby=options.standby) as lock:
            if options.standby:
                config = _latest(config, read)
            if config.workers.count > 1:
                supervisor = partial(_supervisor, config, path, environ, lock)
                return asyncio.run(serve(config, supervisor, read=read, token=token))
            return _run_on_frame_loop(serve(config, lambda: _bridge(config, options), read=read, token=token), config)
    except InstanceRunning as problem:
        print(f"asterisk-bridge: {problem}", file=sys.stderr)
        return 1


async def serve(
    config: Config,
    make_service: Callable[[], Service],
    *,
    read: Callable[[], Config],
    token: Path | None = None,
) -> int:
    """Run a service until SIGTERM or SIGINT, which waits for calls to end for ``restart.drain_s``.

    A second signal ends this wait; a further one ends the process immediately. SIGHUP reloads the configuration.

    Args:
        config: the service's configuration.
        make_service: creates the service; called when signals are handled already.
        read: reads the configuration again.
        token: file of the token that the first start created, if that token is in use.

    Returns:
        The exit code.
    """
    loop = asyncio.get_running_loop()
    stopping, drained = asyncio.Event(), asyncio.Event()

    def stop(number: int) -> None:
        if drained.is_set():
            log.warning("second signal, stopping immediately")
            service.abandon()
            os._exit(128 + number)
        if stopping.is_set() or not config.restart.drain_s:
            drained.set()
            log.info("stopping, a further signal stops immediately signal=%s", signal.Signals(number).name)
        else:
            log.info(
                "stopping when calls have ended, a further signal ends them signal=%s", signal.Signals(number).name
            )
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    service = make_service()
    reloading = Reloading(service, read)
    loop.add_signal_handler(signal.SIGHUP, reloading.begin)
    starting = asyncio.create_task(service.start())
    waiting = asyncio.create_task(stopping.wait())
    ended = service.ended or asyncio.Event()
    ending = asyncio.create_task(ended.wait())
    preloading: asyncio.Task[None] | None = None
    try:
        # A signal must also end a start that hangs.
        if await first_of(starting, waiting) == 0:
            exempt_from_collection()
            if service.settled is not None:
                preloading = asyncio.create_task(preload_for_calls(service.settled), name="preload")
            service.log_addresses()
            reloading.start()
            if token is not None:
                log_token(config, service.http_port, token)
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not drained.is_set() and not ended.is_set():
                await first_of(service.drain(), drained.wait(), ended.wait())
                drained.set()
        return 1 if ended.is_set() else 0
    except OSError as problem:
        print(f"asterisk-bridge: {explain_bind_error(problem, config)}", file=sys.stderr)
        return 1
    finally:
        reloading.stop()
        starting.cancel()
        waiting.cancel()
        ending.cancel()
        if preloading is not None:
            preloading.cancel()
        await asyncio.wait({starting, waiting, ending})
        await service.stop()
        log.info("stopped")


def explain_bind_error(problem: OSError, config: Config) -> str:
    """Return one line with the port that could not be opened, the cause and the remedy."""
    text = problem.strerror or str(problem)
    if isinstance(problem, socket.gaierror):
        return f"http.host or audiosocket.bind_host: {config.http.host!r} or {config.audiosocket.bind_host!r}: {text}"
    # asyncio names the address in the message only: "... bind on address ('127.0.0.1', 8080): ..."; for one that
    # does not belong to this machine, Python 3.13 reports "could not bind on any address out of [('192.0.2.1', 0)]".
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
            return f"{section}.{port_key}: {where} is already in use; stop the program that uses it or set another port"
        if problem.errno == errno.EACCES:
            return f"{section}.{port_key}: no permission to listen on {where}; ports below 1024 need a privilege"
        if elsewhere:
            return f"{section}.{host_key}: {host!r} is not an address of this machine"
        return f"{section}.{port_key}: cannot listen on {where}: {text}"
    return f"cannot start: {text}"


def _run_on_frame_loop(serving: Coroutine[None, None, int], config: Config) -> int:
    return_large_blocks()
    shorten_switches()
    with asyncio.Runner(loop_factory=lambda: FrameLoop(config.media.coalesce_ms)) as runner:
        return runner.run(serving)


def _latest(config: Config, read: Callable[[], Config]) -> Config:
    """Return the configuration as it is after the wait of a standby: a token in it may have been revoked."""
    try:
        latest = read()
        if latest.streams.state_file != config.streams.state_file:
            raise ConfigError("streams.state_file", "changed while standing by")
    except ConfigError as problem:
        for error in each_error(problem):
            log.error("configuration not read again after standing by, the earlier one applies error=%s", error)
        return config
    logging.getLogger().setLevel(latest.log.level.upper())
    return latest


def _load_all(config: Config) -> None:
    """Import the modules that the first calls after a takeover would wait for."""
    if config.workers.count > 1:
        import bridge.workers.supervisor
    else:
        import bridge.app.application  # noqa: F401

        preload()


# A process imports only one of these.


def _bridge(config: Config, options: argparse.Namespace) -> Service:
    if options.worker:
        from bridge.workers.worker import Worker

        return Worker(config, options.worker, options.control, options.http_port)
    from bridge.app.application import Application

    return Application(config)


def _supervisor(config: Config, path: Path | None, environ: Mapping[str, str], lock: int | None) -> Service:
    from bridge.workers.supervisor import Supervisor

    return Supervisor(config, path, environ, lock=lock)
