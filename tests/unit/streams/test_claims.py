"""Several bridges see the same calls, and each subscription runs in one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridge.calls.call import Call, CallEnded, PartyJoined, PartyLeft
from bridge.streams.subscriptions import HANDOVER_GRACE_SHARE
from tests.fakes.virtual_time import pass_time
from tests.unit.streams.subscribed import World, party


class Table:
    """The claims that there are, and who holds them."""

    def __init__(self) -> None:
        self.holders: dict[str, Member] = {}
        self.members: list[Member] = []
        self.delay_s = 0.0

    def member(self) -> Member:
        self.members.append(Member(self))
        return self.members[-1]

    def free(self, key: str) -> None:
        del self.holders[key]
        for member in self.members:
            if key in member.wishes:
                member.on_free(key)


class Member:
    """What one bridge sees of the table."""

    on_free: Callable[[str], object]
    on_lost: Callable[[str, float], object]

    def __init__(self, table: Table) -> None:
        self._table = table
        self.wishes: set[str] = set()

    async def claim(self, key: str) -> bool:
        self.wishes.add(key)
        granted = self._table.holders.setdefault(key, self) is self
        await pass_time(self._table.delay_s)
        return granted and self._table.holders.get(key) is self

    def release(self, key: str) -> None:
        self.wishes.discard(key)
        if self._table.holders.get(key) is self:
            self._table.free(key)


class Two:
    """Two bridges that see the same calls."""

    def __init__(self) -> None:
        self.table = Table()
        self.first, self.second = (
            World(claims=self.table.member(), dialect="yeastar", extensions=("1001",)) for _ in range(2)
        )
        self.second.calls = self.first.calls
        self.call = self.first.call("c", party("1001"), party("1002", 2))

    async def consider(self, call: Call | None = None) -> None:
        for world in (self.first, self.second):
            world.subscriptions.consider(call or self.call)
        await settled()

    async def change(self, change: object) -> None:
        for world in (self.first, self.second):
            world.subscriptions.on_change(change)  # type: ignore[arg-type]
        await settled()

    @property
    def running(self) -> tuple[int, int]:
        return len(self.first.running), len(self.second.running)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_call_is_streamed_by_one_of_two_bridges_and_by_the_other_when_that_lets_go() -> None:
    two = Two()
    await two.consider()
    assert two.running == (1, 0)
    await two.consider()
    assert (len(two.first.made), len(two.second.made)) == (1, 0)
    two.first.subscriptions.on_change(CallEnded(two.call))
    await settled()
    assert two.running == (0, 1)
    assert len(two.second.running[0].tracks) == 2
    two.second.subscriptions.on_change(CallEnded(two.call))
    assert not two.table.holders


async def test_a_lost_claim_ends_the_stream_and_it_comes_back_with_the_claim() -> None:
    two = Two()
    await two.consider()
    first, second = two.table.members
    two.table.holders = dict.fromkeys(two.table.holders, second)
    first.on_lost("s/c", 1.5)
    await settled()
    assert two.running == (0, 0)
    assert two.first.made[0].ended == "another process may stream this call now"
    assert two.first.made[0].handover_grace_s == 1.5 * HANDOVER_GRACE_SHARE
    assert two.first.made[0].code == 1012  # the call continues
    second.wishes.clear()
    two.table.free("s/c")
    await settled()
    assert two.running == (1, 0)


async def test_an_application_that_has_closed_is_not_dialed_by_the_next_bridge() -> None:
    two = Two()
    await two.consider()
    two.first.on_ends[0](two.first.made[0], "closed")
    await two.consider()
    assert two.running == (1, 0)  # the fake does not end by itself; nobody made another
    assert (len(two.first.made), len(two.second.made)) == (1, 0)


async def test_calls_that_merge_keep_their_stream_and_the_claim_goes_along() -> None:
    two = Two()
    alice, bob = party("1001"), party("1002", 2)
    old, new = two.first.call("old", alice), two.first.call("new", bob)
    await two.consider(old)
    assert two.running == (1, 0)
    del old.parties[alice.id]
    # The other bridge learns of it first, and must not take the stream over.
    for world in (two.second, two.first):
        world.subscriptions.on_change(PartyLeft(old, alice, moved_to="new"))
        await settled()
    new.add(alice)
    await two.change(PartyJoined(new, alice))
    await two.change(CallEnded(old, merged_into="new"))
    assert two.running == (1, 0)
    assert len(two.first.made) == 1
    assert two.table.holders == {"s/new": two.table.members[0]}
    two.first.subscriptions.on_change(CallEnded(new))
    await settled()
    assert two.running == (0, 1)


async def test_a_claim_that_is_free_again_while_it_is_asked_for_is_asked_for_once_more() -> None:
    two = Two()
    other = two.table.member()
    await other.claim("s/c")
    two.table.delay_s = 0.01
    two.first.subscriptions.consider(two.call)
    await settled()
    other.release("s/c")
    two.table.delay_s = 0
    await pass_time(0.05)
    assert two.running == (1, 0)


async def test_a_call_that_ends_before_the_answer_leaves_no_claim() -> None:
    two = Two()
    two.table.delay_s = 0.01
    two.first.subscriptions.consider(two.call)
    await settled()
    assert two.table.holders
    two.first.subscriptions.on_change(CallEnded(two.call))
    await pass_time(0.05)
    assert not two.table.holders
    assert two.running == (0, 0)
    await two.first.subscriptions.stop()
