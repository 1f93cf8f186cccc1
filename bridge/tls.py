"""TLS contexts for every outgoing connection: applications, flow servers, webhooks, Redis and ARI.

Building one blocks for 15 ms (measured, with the system's authorities), so it runs in threads of its own: neither the
event loop nor a blocked DNS lookup can delay it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from bridge.errors import BridgeError
from bridge.files import find_below, read_regular

MAX_CA_FILE_BYTES = 1024 * 1024
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_threads = ThreadPoolExecutor(2, thread_name_prefix="tls")


class TrustError(BridgeError):
    """A ``ca_file`` cannot be used; the message begins with its name."""


class Trust(Struct, frozen=True):
    """The servers to accept.

    Args:
        verify: check certificate and host name.
        ca_file: PEM file with the only trusted authorities; empty: those of the system.
        ca_dir: the directory that must contain ``ca_file``, for names that come over HTTP or from a flow ("": none may
            be named); None: any path is allowed, for names from the configuration file.
        client_certificate: PEM file with this side's certificate; empty: none.
        client_key: PEM file with its key, without a passphrase; empty: it is in the same file.
    """

    verify: bool = True
    ca_file: str = ""
    ca_dir: str | None = None
    client_certificate: str = ""
    client_key: str = ""


@contextlib.contextmanager
def without_system_authorities() -> Iterator[None]:
    """Create contexts that trust no server, during the import of aiohttp.

    aiohttp creates its default contexts when it is imported, and reads the system's authorities for them, a twentieth
    of the start. No client uses them: each has its own. If used, they would accept no server.
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
    """Create a TLS context like `client_context`, blocking; for the start.

    Raises:
        TrustError: the file cannot be used.
    """
    if trust.client_certificate:
        return _with_client_certificate(trust)
    if not trust.verify or not trust.ca_file:
        return _context(trust.verify, None)
    try:
        path = Path(trust.ca_file) if trust.ca_dir is None else find_below(trust.ca_dir, trust.ca_file)
        status = os.stat(path)
        return _context(True, path, status.st_mtime_ns, status.st_size, status.st_ino)
    except (OSError, ValueError) as problem:
        if trust.ca_dir is not None:
            # The same message for every failure: it must not disclose which files exist.
            where = "[outbound] ca_dir" if trust.ca_dir else "[outbound] ca_dir, which is not set"
            raise TrustError(f"{trust.ca_file[:200]!r} is not a PEM file with a certificate below {where}") from None
        raise TrustError(f"{trust.ca_file!r} cannot be used: {_reason(problem)}") from None


def _with_client_certificate(trust: Trust) -> ssl.SSLContext:
    authorities = Path(trust.ca_file) if trust.verify and trust.ca_file else None
    pair = (trust.client_certificate, trust.client_key or None)
    changed = []
    for name in filter(None, (trust.ca_file, *pair)):
        try:
            status = os.stat(name)
        except (OSError, ValueError) as problem:
            raise TrustError(f"{name!r} cannot be used: {_reason(problem)}") from None
        if not stat.S_ISREG(status.st_mode):  # OpenSSL would wait for the other side of a FIFO
            raise TrustError(f"{name!r} cannot be used: not a regular file")
        changed += [status.st_mtime_ns, status.st_size, status.st_ino]
    try:
        return _context(trust.verify, authorities, *changed, pair=pair)
    except (OSError, ValueError) as problem:
        names = ", ".join(repr(name) for name in filter(None, (trust.ca_file, *pair)))
        raise TrustError(f"{names} cannot be used: {_reason(problem)}") from None


def pinned_context(certificate: str) -> ssl.SSLContext:
    """Return the context for connections to a server with a known certificate: no other is accepted.

    Its names are not checked: the server may be reached by an address that is not in the certificate.

    Args:
        certificate: PEM file with the server's certificate, followed by its authorities. Blocks.

    Raises:
        TrustError: the file cannot be used.
    """
    try:
        chain = read_regular(certificate, MAX_CA_FILE_BYTES).decode("ascii", "ignore")
        begin, end = chain.find(_BEGIN), chain.find(_END)
        if begin < 0 or end < begin:
            raise ssl.SSLError("no certificate")
        # Only the first one: other certificates of its authority are not this server's.
        context = ssl.create_default_context(cadata=chain[begin : end + len(_END)])
    except (OSError, ValueError) as problem:
        raise TrustError(f"{certificate!r} cannot be used: {_reason(problem)}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = False
    return context


@functools.lru_cache(maxsize=64)
def _context(
    verify: bool, path: Path | None, *_changed: int, pair: tuple[str, str | None] | None = None
) -> ssl.SSLContext:
    context = _verifying(path) if verify else _accepting_all()
    if pair is not None:
        # Not a prompt on the terminal, should the key have a passphrase.
        context.load_cert_chain(*pair, password=lambda: "")
    return context


def _accepting_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _verifying(path: Path | None) -> ssl.SSLContext:
    if path is None:
        return ssl.create_default_context()
    authorities = read_regular(path, MAX_CA_FILE_BYTES).decode("ascii", "ignore")  # comments may contain anything
    if "-----BEGIN" not in authorities:
        raise ssl.SSLError("no certificate")  # of an empty string Python would make: the system's authorities
    context = ssl.create_default_context(cadata=authorities)
    # Python 3.13 requires extensions that hand-made certificates lack ("CA cert does not include key usage
    # extension"); an authority that the administrator names may lack them. Everything else is checked.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _reason(problem: OSError | ValueError) -> str:
    if isinstance(problem, ssl.SSLError):
        return "contains no PEM certificate"
    if isinstance(problem, FileNotFoundError):
        return "does not exist"
    return getattr(problem, "strerror", None) or "not a path"
