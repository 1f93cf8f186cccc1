"""DNS lookups that hang delay only lookups of the same name."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from bridge.outbound.gate import Gate
from bridge.outbound.policy import Denied, Policy
from bridge.outbound.resolver import MAX_FOREIGN, MAX_LOOKUPS, Resolver


class SlowNames:
    """A resolver whose answers for ``hang...`` come when they are released: no real one can be had to do that."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = threading.Event()
        self.names = {"good.example": ["192.0.2.1", "2001:db8::1"], "inner.example": ["127.0.0.1", "192.0.2.2"]}

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host.startswith("hang"):
            self.release.wait(30)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.names[host]


@pytest.fixture
def resolver() -> Iterator[SlowNames]:
    resolver = SlowNames()
    yield resolver
    resolver.release.set()


async def test_addresses_and_localhost_need_no_lookup(resolver: SlowNames) -> None:
    names = Resolver(resolver)
    assert await names.addresses("192.0.2.9") == ["192.0.2.9"]
    assert await names.addresses("fe80::1%eth0") == ["fe80::1%eth0"]
    assert await names.addresses("Localhost.") == ["127.0.0.1", "::1"]
    assert resolver.asked == []
    assert await names.addresses("good.example") == ["192.0.2.1", "2001:db8::1"]
    with pytest.raises(socket.gaierror, match="not known"):
        await names.addresses("bad.example")


async def test_one_lookup_of_a_name_at_a_time_however_often_it_is_tried(resolver: SlowNames) -> None:
    names = Resolver(resolver)
    waiting = [asyncio.create_task(names.addresses("hang.example")) for _ in range(100)]
    for _ in range(10):  # who gives up does not free the thread, nor take another at the next try
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(names.addresses("HANG.example"), 0.01)
    assert resolver.asked == ["hang.example"]
    assert await names.addresses("good.example") == ["192.0.2.1", "2001:db8::1"]
    waiting[0].cancel()
    resolver.names["hang.example"] = ["192.0.2.3"]
    resolver.release.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [["192.0.2.3"]] * 99


async def test_names_of_strangers_leave_threads_for_those_of_the_configuration(resolver: SlowNames) -> None:
    names = Resolver(resolver)
    loop = asyncio.get_running_loop()
    foreign = [loop.create_task(names.addresses(f"hang{n}.example", configured=False)) for n in range(100)]
    done, waiting = await asyncio.wait(foreign, timeout=0.2)
    assert len(waiting) == MAX_FOREIGN
    assert {str(task.exception()) for task in done} == {f"[Errno {socket.EAI_AGAIN}] too many pending DNS lookups"}
    assert await names.addresses("good.example", configured=True) == ["192.0.2.1", "2001:db8::1"]
    more = [loop.create_task(names.addresses(f"hang-{n}.example")) for n in range(100)]
    done, own = await asyncio.wait(more, timeout=0.2)
    assert len(own) == MAX_LOOKUPS - MAX_FOREIGN
    assert await names.addresses("127.0.0.1", configured=False) == ["127.0.0.1"]
    resolver.release.set()
    await asyncio.wait({*waiting, *own})
    assert await names.addresses("good.example", configured=False) == ["192.0.2.1", "2001:db8::1"]


async def test_of_a_name_with_several_addresses_those_that_are_denied_are_left_out(resolver: SlowNames) -> None:
    gate = Gate(names=Resolver(resolver))
    assert await gate.addresses("inner.example", configured=False) == ["192.0.2.2"]
    assert await gate.addresses("inner.example", configured=True) == ["127.0.0.1", "192.0.2.2"]
    strict = Gate(Policy(deny=["192.0.2.0/24"]), names=Resolver(resolver))
    with pytest.raises(Denied, match=r"inner\.example \(loopback\) denied"):
        await strict.addresses("inner.example", configured=False)
    with pytest.raises(Denied):
        await strict.connect("inner.example", 80, configured=False)
    resolver.asked.clear()
    with pytest.raises(Denied):
        await Gate(Policy(deny=["*.example"]), names=Resolver(resolver)).addresses("good.example", configured=True)
    assert resolver.asked == []
