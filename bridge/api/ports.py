"""How the HTTP server listens: on a port of its own or one that several processes share, with TLS or without."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from aiohttp.typedefs import Middleware

from bridge.config import HttpConfig


@dataclass(frozen=True)
class SharedPort:
    """How one of several processes listens (`bridge.workers`).

    Args:
        port: the port that they share; the kernel gives each connection to one of them.
        socket: path of a Unix socket of this process's own, for the others: nobody else can reach it, so it takes
            requests without a token, as of somebody on this machine.
        middleware: sees the requests that come to the shared port once their token was found good.
    """

    port: int
    socket: Path
    middleware: Middleware


def tls_context(config: HttpConfig) -> ssl.SSLContext | None:
    """TLS as configured; None for plain HTTP."""
    if not config.tls_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.tls_certificate, config.tls_key)
    return context
