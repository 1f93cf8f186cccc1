"""TLS contexts for every connection that the bridge opens: applications, flow servers, webhooks, Redis and ARI.

Building one blocks for 15 ms (measured, with the system's authorities), so it happens in threads of its own: neither
the event loop nor a DNS lookup that hangs can delay it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BridgeError
from bridge.files import find_below, read_regular

MAX_CA_FILE_BYTES = 1024 * 1024
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_threads = ThreadPoolExecutor(2, thread_name_prefix="tls")


class TrustError(BridgeError):
    """A ``ca_file`` cannot be used; the message begins with the file's name."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Which servers to accept.

    Args:
        verify: check certificate and host name.
        ca_file: PEM file with the only authorities to trust; empty: those of the system.
        ca_dir: the directory below which ``ca_file`` must lie, for names that come over HTTP or from a flow ("": none
            may be named); None: it may lie anywhere, for names from the configuration file.
    """

    verify: bool = True
    ca_file: str = ""
    ca_dir: str | None = None


@contextlib.contextmanager
def without_system_authorities() -> Iterator[None]:
    """Let contexts be created that trust no server: for the import of aiohttp.

    aiohttp creates its default contexts when it is imported, and reads the system's authorities for them, a twentieth
    of the bridge's start. No client of the bridge uses them: each names its own. Used, they would accept no server.
    """
    load = ssl.SSLContext.load_default_certs
    ssl.SSLContext.load_default_certs = lambda *_, **__: None  # type: ignore[method-assign]
    ssl.SSLContext.set_default_verify_paths = lambda _: None  # type: ignore[method-assign,assignment]  # hides that of the base
    try:
        yield
    finally:
        ssl.SSLContext.load_default_certs = load  # type: ignore[method-assign]
        del ssl.SSLContext.set_default_verify_paths


async def client_context(trust: Trust) -> ssl.SSLContext:
    """Return the context for connections to a server; the same one until ``ca_file`` changes.

    Raises:
        TrustError: the file cannot be used.
    """
    return await asyncio.get_running_loop().run_in_executor(_threads, build_context, trust)


def build_context(trust: Trust) -> ssl.SSLContext:
    """Do what `client_context` does, blocking: for the start.

    Raises:
        TrustError: the file cannot be used.
    """
    if not trust.verify or not trust.ca_file:
        return _context(trust.verify, None)
    try:
        path = Path(trust.ca_file) if trust.ca_dir is None else find_below(trust.ca_dir, trust.ca_file)
        status = os.stat(path)
        return _context(True, path, status.st_mtime_ns, status.st_size, status.st_ino)
    except (OSError, ValueError) as problem:
        if trust.ca_dir is not None:
            # One answer to every failure: nobody may find out in this way which files exist.
            where = "[outbound] ca_dir" if trust.ca_dir else "[outbound] ca_dir, which is not set"
            raise TrustError(f"{trust.ca_file[:200]!r} is not a PEM file with a certificate below {where}") from None
        raise TrustError(f"{trust.ca_file!r} cannot be used: {_reason(problem)}") from None


def pinned_context(certificate: str) -> ssl.SSLContext:
    """Return the context for connections to a server whose own certificate is at hand: no other is accepted.

    Its names do not matter then: the server may be reached by an address that the certificate does not name.

    Args:
        certificate: PEM file with the server's certificate, and those of its authorities behind it. Blocks.

    Raises:
        TrustError: the file cannot be used.
    """
    try:
        chain = read_regular(certificate, MAX_CA_FILE_BYTES).decode("ascii", "ignore")
        begin, end = chain.find(_BEGIN), chain.find(_END)
        if begin < 0 or end < begin:
            raise ssl.SSLError("no certificate")
        # The first one alone: whatever its authority has issued to others is not this server.
        context = ssl.create_default_context(cadata=chain[begin : end + len(_END)])
    except (OSError, ValueError) as problem:
        raise TrustError(f"{certificate!r} cannot be used: {_reason(problem)}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = False
    return context


@functools.lru_cache(maxsize=64)
def _context(verify: bool, path: Path | None, *_changed: int) -> ssl.SSLContext:
    if not verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if path is None:
        return ssl.create_default_context()
    authorities = read_regular(path, MAX_CA_FILE_BYTES).decode("ascii", "ignore")  # comments may hold anything
    if "-----BEGIN" not in authorities:
        raise ssl.SSLError("no certificate")  # of an empty string Python would make: the system's authorities
    context = ssl.create_default_context(cadata=authorities)
    # Python 3.13 insists on extensions that certificates made by hand lack ("CA cert does not include key usage
    # extension"); an authority that the administrator names may lack them. All else is checked.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _reason(problem: OSError | ValueError) -> str:
    if isinstance(problem, ssl.SSLError):
        return "holds no PEM certificate"
    if isinstance(problem, FileNotFoundError):
        return "does not exist"
    return getattr(problem, "strerror", None) or "not a path"
