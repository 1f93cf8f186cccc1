"""Log lines with the addresses that the bridge listens on."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from bridge.api.connections import open_files_limit
from bridge.config import Config, host_and_port, is_wildcard

log = logging.getLogger("bridge.cli")


def log_http(config: Config, port: int) -> None:
    """Log the address that applications connect to, and how many tokens are accepted."""
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
    if not config.http.authentication:
        log.warning("http.authentication is false: every program of this machine may listen to calls and dial")
        return
    log.info("%d token(s) accepted", len(config.http.tokens) + len(config.tokens))


def log_token(config: Config, port: int, path: Path) -> None:
    """Log the file of the token that the first start created, and show the link to the status page.

    Args:
        config: of the bridge.
        port: the HTTP port.
        path: the token's file.
    """
    log.info("no token is configured: the accepted one was created by the first start and is in %s", path)
    if sys.stderr.isatty():  # a person reads it; a log file or a log server must not hold it
        scheme = "https" if config.http.tls_certificate else "http"
        host = "127.0.0.1" if is_wildcard(config.http.host) else config.http.host
        token = config.http.tokens[0].get_secret_value()
        print(f"status page: {scheme}://{host_and_port(host, port)}/#token={token}", file=sys.stderr, flush=True)


def log_audiosocket(config: Config, port: int) -> None:
    """Log the address that Asterisk connects to."""
    log.info(
        "Asterisk: AudioSocket on %s, which Asterisk dials as %s",
        host_and_port(config.audiosocket.bind_host, port),
        config.audiosocket.advertised_address(port),
    )
