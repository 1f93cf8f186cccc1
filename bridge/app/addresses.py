"""Log lines with the addresses that asterisk-bridge listens on."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from bridge.api.connections import open_files_limit
from bridge.config import Config, host_and_port, is_wildcard

log = logging.getLogger("bridge.cli")


def log_http(config: Config, port: int) -> None:
    """Log the HTTP address, and how many tokens are accepted."""
    scheme = "https" if config.http.tls_certificate else "http"
    log.info("HTTP server listening url=%s", f"{scheme}://{host_and_port(config.http.host, port)}")
    limit, needed = open_files_limit(), config.open_files_needed
    if limit is not None and limit < needed:
        log.warning(
            "too few open files allowed for media.max_streams and http.max_connections, raise ulimit -n or lower them"
            " limit=%d count=%d",
            limit,
            needed,
        )
    if not config.http.authentication:
        log.warning("http.authentication is false, any program on this machine can listen to and create calls")
        return
    log.info("tokens accepted count=%d", len(config.http.tokens) + len(config.tokens))


def log_token(config: Config, port: int, path: Path) -> None:
    """Log the file of the token that the first start created, and print the link to the status page.

    Args:
        config: the configuration.
        port: the HTTP port.
        path: the token's file.
    """
    log.info("no token configured, accepting the token of the first start path=%s", path)
    if sys.stderr.isatty():  # for a person; the token must not be in a log file or log server
        scheme = "https" if config.http.tls_certificate else "http"
        host = "127.0.0.1" if is_wildcard(config.http.host) else config.http.host
        token = config.http.tokens[0].get_secret_value()
        print(f"status page: {scheme}://{host_and_port(host, port)}/#token={token}", file=sys.stderr, flush=True)


def log_audiosocket(config: Config, port: int) -> None:
    """Log the address that Asterisk connects to."""
    log.info(
        "AudioSocket listening, Asterisk dials the advertised address host=%s advertised=%s",
        host_and_port(config.audiosocket.bind_host, port),
        config.audiosocket.advertised_address(port),
    )
