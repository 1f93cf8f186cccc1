"""Logs where the bridge listens."""

from __future__ import annotations

import logging

from bridge.api.connections import open_files_limit
from bridge.config import Config, host_and_port

log = logging.getLogger("bridge.cli")


def say_http(config: Config, port: int) -> None:
    """Log where applications connect, and who may."""
    scheme = "https" if config.http.tls_certificate else "http"
    log.info("applications: %s://%s", scheme, host_and_port(config.http.host, port))
    limit, needed = open_files_limit(), config.open_files_needed
    if limit is not None and limit < needed:
        log.warning(
            "only %d files may be open (ulimit -n), but media.max_streams and http.max_connections need up to %d:"
            " raise the one or lower the others",
            limit,
            needed,
        )
    count = len(config.http.tokens)
    log.info("%d token(s) configured", count) if count else log.info("no token configured: listening on loopback only")


def say_audiosocket(config: Config, port: int) -> None:
    """Log where Asterisk connects."""
    log.info(
        "Asterisk: AudioSocket on %s, which Asterisk dials as %s",
        host_and_port(config.audiosocket.bind_host, port),
        config.audiosocket.advertised_address(port),
    )
