"""Faults, each done to a house full of calls: what is broken, for how long, and what is promised."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from tests.lab.house import OBSERVED, ROUTED, House
from tests.lab.waiting import until

BACK_S = 10.0
"""Everything works again so soon after the cause is gone, what has to be started included."""
NOTICED_S = 0.5
"""A shorter gap is a busy machine's, or a jitter buffer's."""
CONNECT_S = 3.0
"""How long applications cannot be connected to."""
HANG_S = 5.0

Step = Callable[[House], Awaitable[object]]


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Args:
        title: as the table shows it.
        strike: breaks something, and returns when the cause is gone.
        repair: starts again what has ended; the time that it takes counts as part of the recovery.
        house: which kind of house it needs.
        ends_calls: no call survives it.
        quiet: neither callers nor applications notice.
    """

    title: str
    strike: Step
    repair: Step | None = None
    house: str = "alone"
    ends_calls: bool = False
    quiet: bool = False


@dataclass
class Row:
    """What a fault did.

    Args:
        caller: what callers noticed whose calls an application has.
        observed: what callers noticed whose calls are observed.
        application: what applications noticed.
        back_s: seconds until everything worked again.
        calls: how many were up.
    """

    name: str
    title: str
    caller: str
    observed: str
    application: str
    back_s: int
    calls: int


async def suffer(house: House, name: str) -> Row:
    """Have a house suffer a fault, and check what is promised of every one.

    Raises:
        AssertionError: something is not as promised.
    """
    fault = FAULTS[name]
    await house.call()
    await house.well()
    objects, connections, began = await house.objects(), len(house.sink.connections), house.now()
    visits = house.visits
    up = [each for each in house.sink.connections if each.close_code is None]
    await fault.strike(house)
    gone = house.now()
    if fault.repair is not None:
        await fault.repair(house)
    if fault.ends_calls:
        house.forget_calls()
        await until(house.healthy)
        await house.call()
    well = await house.well(gone)
    back_s = max(0.0, well - gone)
    assert back_s < BACK_S, f"everything works again after {back_s:.1f} s"
    assert all(phone.in_call for phone in house.phones)
    closed = sorted({each.close_code or 1006 for each in up if each.ended.is_set() or each.close_code is not None})
    dialed = len(house.sink.connections) - connections > house.visits - visits
    assert not house.mistaken()
    async with asyncio.timeout(BACK_S):  # nothing is left of what was before
        while await house.objects() != objects:
            await asyncio.sleep(0.1)
    await house.visit()

    def gap(own: str | None, *, application: bool = False) -> float:
        gaps = [
            (ear if application else each.ear).gap(each.hz, began, well)
            for each, ear in house.callers
            if own in (None, each.name)
        ]
        return max(gaps, default=0.0)

    caller, observed, missed = gap(ROUTED), gap(OBSERVED), gap(None, application=True)
    if fault.quiet:
        assert max(caller, observed, missed) < 1.0, (caller, observed, missed)
        assert not closed
    return Row(
        name,
        fault.title,
        "the call ends" if fault.ends_calls else silence(caller),
        "the call ends" if fault.ends_calls else silence(observed),
        noticed(closed, missed, dialed=dialed, ends_calls=fault.ends_calls),
        math.ceil(back_s),
        len(house.phones),
    )


def silence(gap_s: float) -> str:
    """Return what a caller notices, in words."""
    return "nothing" if gap_s < NOTICED_S else f"no audio for {math.ceil(gap_s)} s"


def noticed(closed: list[int], missed_s: float, *, dialed: bool, ends_calls: bool) -> str:
    """Return what an application notices, in words."""
    parts = [f"closed with {', '.join(map(str, closed))}"] if closed else []
    if dialed and not ends_calls:
        parts.append("dialed again")
    if missed_s >= NOTICED_S and not ends_calls:
        parts.append(f"no audio for {math.ceil(missed_s)} s")
    return "; ".join(parts) or "nothing"


# What happens


async def asterisk_is_killed(house: House) -> None:
    house.asterisk(signal.SIGKILL)


async def asterisk_is_stopped(house: House) -> None:
    await house.lab._asterisk.stop()  # noqa: SLF001 - Asterisk alone


async def asterisk_starts(house: House) -> None:
    await house.lab.restart_asterisk()


async def asterisk_hangs(house: House) -> None:
    house.asterisk(signal.SIGSTOP)
    await asyncio.sleep(HANG_S)  # the length of the fault
    house.asterisk(signal.SIGCONT)


async def ari_is_disconnected(house: House) -> None:
    house.ari.drop()
    house.ari.admit()


async def ari_is_refused(house: House) -> None:
    house.ari.drop()
    await asyncio.sleep(HANG_S)  # the length of the fault
    house.ari.admit()


async def ari_is_silent(house: House) -> None:
    house.ari.cut()
    await asyncio.sleep(HANG_S)  # the length of the fault
    house.ari.mend()


async def bridge_is_killed(house: House) -> None:
    await house.service.die()


async def bridge_is_stopped(house: House) -> None:
    await house.service.end()


async def bridge_starts(house: House) -> None:
    await house.service.start()


async def bridge_hangs(house: House) -> None:
    os.kill(house.pid, signal.SIGSTOP)
    await asyncio.sleep(HANG_S)  # the length of the fault
    os.kill(house.pid, signal.SIGCONT)


async def standby_takes_over(house: House) -> None:
    standby = await house.service.stand_by()
    house.service.process.send_signal(signal.SIGTERM)
    await house.service.process.wait()
    await standby.up()
    house.service.become(standby)


async def worker_is_killed(house: House) -> None:
    house.service.kill(1)


async def application_is_killed(house: House) -> None:
    await house.sink.die()


async def application_is_stopped(house: House) -> None:
    await house.sink.stop()


async def application_starts(house: House) -> None:
    await house.sink.start()


async def application_hangs(house: House) -> None:
    house.sink.reading.clear()
    await asyncio.sleep(HANG_S)  # the length of the fault
    house.sink.reading.set()


async def application_refuses(house: House) -> None:
    await house.sink.die()
    await asyncio.sleep(CONNECT_S)  # the length of the fault
    await house.sink.start()


async def application_resets(house: House) -> None:
    house.road.drop()
    await asyncio.sleep(CONNECT_S)  # the length of the fault
    house.road.admit()


async def network_is_silent(house: House) -> None:
    house.road.cut()
    await asyncio.sleep(HANG_S)  # the length of the fault
    house.road.mend()


@contextlib.asynccontextmanager
async def parted(house: House) -> AsyncIterator[None]:
    """Break the connections to applications, and make no new one possible for a while."""
    house.part_applications()
    yield
    await asyncio.sleep(CONNECT_S)  # the length of the fault


async def connects_are_silent(house: House) -> None:
    house.road.cut()
    async with parted(house):
        house.road.drop()
        house.road.admit()
    house.road.mend()


async def connects_are_slow(house: House) -> None:
    house.sink.answers_after_s = CONNECT_S
    house.part_applications()
    await asyncio.sleep(CONNECT_S)  # the length of the fault
    house.sink.answers_after_s = 0.0


async def certificate_is_wrong(house: House) -> None:
    house.certify(False)
    async with parted(house):
        pass
    house.certify(True)


async def name_is_not_found(house: House) -> None:
    await house.mislead(name_fails=True)
    async with parted(house):
        pass
    await house.mislead()


async def disk_is_full(house: House) -> None:
    with house.limited(resource.RLIMIT_FSIZE, 0):
        await house.visit()
        await asyncio.sleep(CONNECT_S)  # the length of the fault


async def descriptors_are_used_up(house: House) -> None:
    used = max(int(each) for each in os.listdir(f"/proc/{house.pid}/fd")) + 1
    with house.limited(resource.RLIMIT_NOFILE, used):
        await asyncio.sleep(CONNECT_S)  # the length of the fault


def clock_jumps(seconds: float) -> Step:
    """Return the fault of a clock that is set to another time."""

    async def jump(house: House) -> None:
        await house.mislead(clock_s=seconds)
        await asyncio.sleep(1)  # of timers with the other time

    return jump


async def store_is_killed(house: House) -> None:
    assert house.store is not None
    await house.store.stop(at_once=True)


async def store_starts(house: House) -> None:
    assert house.store is not None
    await house.store.start()


async def store_hangs(house: House) -> None:
    assert house.store is not None
    pid = house.store._process.pid  # noqa: SLF001 - no test but this one has it hang
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(HANG_S)  # the length of the fault
    os.kill(pid, signal.SIGCONT)


FAULTS = {
    "asterisk-killed": Fault(
        "Asterisk is killed and started again", asterisk_is_killed, asterisk_starts, ends_calls=True
    ),
    "asterisk-stopped": Fault(
        "Asterisk is stopped and started again", asterisk_is_stopped, asterisk_starts, ends_calls=True
    ),
    "asterisk-hangs": Fault("Asterisk hangs for 5 s", asterisk_hangs),
    "ari-disconnected": Fault("ARI's connections break", ari_is_disconnected, quiet=True),
    "ari-refused": Fault("ARI refuses connections for 5 s", ari_is_refused, quiet=True),
    "ari-silent": Fault("ARI does not answer for 5 s", ari_is_silent, quiet=True),
    "killed": Fault("asterisk-bridge is killed and started again", bridge_is_killed, bridge_starts),
    "stopped": Fault("asterisk-bridge is stopped and started again", bridge_is_stopped, bridge_starts),
    "hangs": Fault("asterisk-bridge hangs for 5 s", bridge_hangs),
    "standby": Fault("asterisk-bridge is stopped while a standby waits", standby_takes_over),
    "application-killed": Fault(
        "The application is killed and started again", application_is_killed, application_starts
    ),
    "application-stopped": Fault(
        "The application is stopped and started again", application_is_stopped, application_starts
    ),
    "application-hangs": Fault("The application reads nothing for 5 s", application_hangs),
    "connects-refused": Fault("The application is killed; connections are refused for 3 s", application_refuses),
    "connects-reset": Fault("Connections to the application break, and each new one for 3 s", application_resets),
    "connects-silent": Fault("Connections break; new ones get no response for 3 s", connects_are_silent),
    "connects-slow": Fault("Connections break; new ones get a response after 3 s", connects_are_slow),
    "certificate": Fault("Connections break; the certificate is not accepted for 3 s", certificate_is_wrong),
    "name": Fault("Connections break; the name is not resolved for 3 s", name_is_not_found),
    "network-silent": Fault("The network to the application loses everything for 5 s", network_is_silent),
    "disk-full": Fault("The disk is full for 3 s", disk_is_full, quiet=True),
    "descriptors": Fault("No file descriptor is left for 3 s", descriptors_are_used_up, quiet=True),
    "clock-forward": Fault("The clock is set 1 h forward", clock_jumps(3600), quiet=True),
    "clock-back": Fault("The clock is set 1 day back", clock_jumps(-86400), quiet=True),
    "worker-killed": Fault("One of two workers is killed", worker_is_killed, house="workers"),
    "store-killed": Fault(
        "The cluster's store is killed and started again, empty", store_is_killed, store_starts, house="cluster"
    ),
    "store-hangs": Fault("The cluster's store hangs for 5 s", store_hangs, house="cluster"),
}
"""By name, in the order of the table; those of one kind of house stand together."""
