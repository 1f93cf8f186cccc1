"""Resolves names in threads of their own: one lookup of a name at a time, and a bounded number of them.

A lookup cannot be canceled: a DNS server that does not respond blocks its thread for many seconds. In asyncio's default
pool, with four threads more than cores, a few such lookups would delay every other name, file and TLS context of the
process.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future

from bridge.outbound.policy import is_localhost, literal

MAX_LOOKUPS = 32
"""Simultaneous lookups, each of another name; a further one fails immediately."""
MAX_FOREIGN = 16
"""How many of them may be for names that came over HTTP or from a flow's server: the rest is reserved for names of the
configuration."""
LOCALHOST = ("127.0.0.1", "::1")

LookUp = Callable[[str], list[str]]


def system_lookup(host: str) -> list[str]:
    """Return the addresses of a name in the system's order of preference; blocks.

    Raises:
        OSError: none is found (`socket.gaierror`).
        UnicodeError: the name cannot exist.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Resolver:
    """Resolves names, for any event loop of the process.

    Args:
        look_up: the blocking function; replaced in tests.
    """

    def __init__(self, look_up: LookUp = system_lookup) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._under_way: dict[str, tuple[Future[list[str]], bool]] = {}

    async def addresses(self, host: str, *, configured: bool = True) -> list[str]:
        """Return the addresses of a host in order of preference; an address or localhost needs no thread.

        Args:
            host: a name or an address.
            configured: whether the name is in the configuration file; see `MAX_FOREIGN`.

        Raises:
            OSError: there are none, or too many lookups are pending (`socket.gaierror`).
        """
        if literal(host) is not None:
            return [host]
        if is_localhost(host):
            return list(LOCALHOST)
        future: asyncio.Future[list[str]] = asyncio.wrap_future(self._lookup_of(host.lower(), configured))
        return list(await future)

    def _lookup_of(self, host: str, configured: bool) -> Future[list[str]]:
        with self._lock:
            present = self._under_way.get(host)
            if present is not None:
                return present[0]
            foreign = sum(not known for _, known in self._under_way.values())
            if len(self._under_way) >= MAX_LOOKUPS or (not configured and foreign >= MAX_FOREIGN):
                raise socket.gaierror(socket.EAI_AGAIN, "too many pending DNS lookups")
            future: Future[list[str]] = Future()
            future.set_running_or_notify_cancel()  # a waiter that is canceled does not cancel it for the others
            self._under_way[host] = future, configured
        try:
            threading.Thread(target=self._run, args=(host, future), name="dns", daemon=True).start()
        except RuntimeError:  # the system's limit of threads
            self._forget(host)
            raise socket.gaierror(socket.EAI_AGAIN, "no thread for a DNS lookup") from None
        return future

    def _run(self, host: str, future: Future[list[str]]) -> None:
        try:
            found = self._look_up(host)
        except OSError as problem:
            self._forget(host)
            future.set_exception(problem)
        except Exception:  # UnicodeError of a name that cannot exist
            self._forget(host)
            future.set_exception(socket.gaierror(socket.EAI_NONAME, "not a host name"))
        else:
            self._forget(host)
            future.set_result(found)

    def _forget(self, host: str) -> None:
        with self._lock:
            self._under_way.pop(host, None)


NAMES = Resolver()
"""The resolver of the process."""
