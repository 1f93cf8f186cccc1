"""How the HTTP server listens: on a port of its own or one that several processes share, with TLS or without."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp.typedefs import Middleware
from msgspec import Struct

from bridge.api.backend import Operate
from bridge.config import HttpConfig
from bridge.config.cross_checks import tls_contradictions
from bridge.errors import ConfigError


class SharedPort(Struct, frozen=True):
    """The listening socket of one of several processes (`bridge.workers`).

    Args:
        port: the port that they share; the kernel gives each connection to one of them.
        socket: path of a Unix socket of this process, for the other processes: no other client can reach it, so the
            principals that they send are trusted.
        middleware: gets the requests to the shared port once their token is validated.
        ticket_key: signs the tickets of all of them.
        claim_ticket: returns whether none of the others has used the ticket with this nonce.
        operate: executes an operation on a call that another process controls.
    """

    port: int
    socket: Path
    middleware: Middleware
    ticket_key: bytes
    claim_ticket: Callable[[str], Awaitable[bool]]
    operate: Operate


class PortTls:
    """TLS of the port, whose certificate, key and client authorities can be replaced while it listens.

    A listening server keeps one `ssl.SSLContext`, and nothing can be removed from a context. That one therefore passes
    each handshake to the context that was read last: all of it changes together, or nothing.

    Args:
        config: names the files; with ``tls_client_ca`` clients without a certificate are rejected.

    Raises:
        ConfigError: a file is invalid.
    """

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._current = _context(config)
        self.context = _context(config)
        """The context with which a server is created."""
        self.context.sni_callback = self._choose  # called for every handshake, also without a server name

    def reload(self) -> None:
        """Read the files again; open connections keep what they have.

        Blocks while it reads.

        Raises:
            ConfigError: a file is invalid; the previous certificate stays in use.
        """
        self._current = _context(self._config)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


def _context(config: HttpConfig) -> ssl.SSLContext:
    for wrong in tls_contradictions(config):
        raise wrong
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key, lambda: "")
        if config.tls_client_ca:
            context.load_verify_locations(config.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
            # A resumed session would skip the check of the certificate, also after its authority was removed.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
    except (OSError, ValueError) as problem:  # a file has changed since the check
        raise ConfigError("http.tls_certificate", f"cannot be used: {problem}") from None
    return context
