"""What is known only when a connection is opened: variables of the call, the credential, and the destination."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from bridge.dialects.base import Account, CallInfo, Dialect
from bridge.errors import AriError
from bridge.files import read_regular
from bridge.media.dial import Destination, LinkFailed
from bridge.outbound.headers import MAX_VALUE_CHARACTERS, check_header_value
from bridge.streams.subscription import Target
from bridge.templates import fill_header, fill_url

log = logging.getLogger(__name__)

VARIABLES_TIMEOUT_S = 1.0
"""How long a connection waits for the call's variables, in seconds."""

GetVariable = Callable[[str, str], Awaitable[str]]
"""Returns a variable of a channel (its id, the name); raises AriError."""


def destination_of(
    target: Target,
    dialect: Dialect,
    account: Account,
    call: CallInfo,
    *,
    ca_dir: str | None,
    credential: Mapping[str, str] | None = None,
) -> Destination:
    """Return the destination of one connection, with the templates filled.

    Args:
        target: the application.
        dialect: of the stream.
        account: the product's identity toward applications.
        call: the facts for the templates.
        ca_dir: for a ``ca_file`` that is not from the configuration.
        credential: the header from ``auth_value_file``.

    Raises:
        ValueError: the URL or a header is invalid.
    """
    facts = call.facts
    url = dialect.url(fill_url(target.url, facts))
    subprotocols = target.subprotocols or ((dialect.subprotocol,) if dialect.subprotocol else ())
    return Destination(
        url,
        {
            **({"Sec-WebSocket-Protocol": ", ".join(subprotocols)} if subprotocols else {}),
            **{name: fill_header(value, facts) for name, value in target.extra_headers.items()},
            **target.headers,
            **(credential or {}),
            **dialect.handshake_headers(url, account),
        },
        verify=target.verify_tls,
        ca_file=target.ca_file,
        ca_dir=ca_dir,
        configured=target.host_configured,
        client_certificate=target.client_certificate,
        client_key=target.client_key,
    )


async def credential_of(target: Target) -> Mapping[str, str]:
    """Return the header with the credential in ``auth_value_file``; nothing without a file.

    Raises:
        LinkFailed: the file cannot be used; it may be replaced.
    """
    if not target.auth_value_file or not target.auth_key:
        return {}
    return {target.auth_key: await asyncio.to_thread(read_secret, target.auth_value_file, "auth_value_file")}


def read_secret(path: str, key: str) -> str:
    """Return the secret in a file, its only line; spaces and line breaks around it are ignored. Blocks.

    Args:
        path: of the file.
        key: what names the file in the configuration, for errors.

    Raises:
        LinkFailed: the file cannot be used; it may be replaced.
    """
    try:
        content = read_regular(path, 2 * MAX_VALUE_CHARACTERS)
        secret = check_header_value(content.decode().strip())
        reason = "is empty"
    except OSError as problem:
        secret, reason = "", problem.strerror or "cannot be read"
    except UnicodeDecodeError:
        secret, reason = "", "is not UTF-8"
    except ValueError as problem:
        secret, reason = "", str(problem)
    if not secret:
        raise LinkFailed(f"{key}: {path!r}: {reason}")
    return secret


async def variables_of(names: tuple[str, ...], channels: tuple[str, ...], get_variable: GetVariable) -> dict[str, str]:
    """Return channel variables, empty if they are not set or cannot be read in time.

    Args:
        names: the variables.
        channels: ids of channels of the call; the first that exists has them.
        get_variable: asks Asterisk.
    """

    async def value_of(name: str) -> str:
        for channel_id in channels:
            try:
                return await get_variable(channel_id, name)
            except AriError as error:
                if error.status != 404:
                    log.warning("channel variable not read channel=%s error=%s", channel_id, error)
        return ""

    try:
        async with asyncio.timeout(VARIABLES_TIMEOUT_S):
            return dict(zip(names, await asyncio.gather(*map(value_of, names)), strict=True))
    except TimeoutError:
        log.warning("channel variables not read in time channel=%s", channels[0])
        return dict.fromkeys(names, "")
