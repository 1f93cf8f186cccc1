"""Stream tickets: for one WebSocket, one call, one direction, half a minute."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bridge.access import Grant, PartyNames, Principal, Reach, Scope
from bridge.api import server
from bridge.api.errors import ApiError
from bridge.api.events import EventSockets
from bridge.api.tickets import VALID_S, Tickets
from bridge.api.tokens import Tokens, hash_of
from bridge.events.hub import Events
from bridge.patterns import Patterns

from .asking import clients, grant, headers, status_and_reason
from .samples import UPGRADE, Pbx

KEY = b"k" * 32
STREAM = "/v1.0/calls/c1/media_stream?encapsulation=sln"


def tokens(*grants: Grant) -> Tokens:
    return Tokens({hash_of(each.id): each for each in grants})


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def refusal(tickets: Tickets, ticket: str, kind: Any = "call", identity: str = "c1") -> str:
    with pytest.raises(ApiError) as caught:
        await tickets.redeem(ticket, kind, identity)
    assert (caught.value.status, caught.value.reason) == (401, "INVALID_CREDENTIALS")
    return caught.value.message


def principal(all_tokens: Tokens, token: str) -> Principal:
    found = all_tokens.find([token])
    assert found is not None
    return found


async def test_a_ticket_is_good_once_for_what_it_was_issued_for() -> None:
    known = tokens(grant("crm"))
    tickets = Tickets(KEY, known, clock=Clock())
    ticket, _ = tickets.issue(principal(known, "crm"), "call", "c1", "listen")
    assert "another WebSocket" in await refusal(tickets, ticket, identity="c2")
    assert "another WebSocket" in await refusal(tickets, ticket, kind="conference")
    assert "another WebSocket" in await refusal(tickets, ticket, kind="events", identity="")
    holder = await tickets.redeem(ticket, "call", "c1")
    assert (holder.id, holder.scopes) == ("crm", {"streams:listen"})
    assert not holder.may("streams:speak")
    assert "has been used" in await refusal(tickets, ticket)


@pytest.mark.parametrize(
    ("direction", "scopes"),
    [
        ("listen", {"streams:listen"}),
        ("speak", {"streams:speak"}),
        ("both", {"streams:listen", "streams:speak"}),
        ("events", {"events"}),
    ],
)
async def test_it_carries_what_its_direction_needs(direction: str, scopes: set[Scope]) -> None:
    known = tokens(grant("crm", "admin"))
    tickets = Tickets(KEY, known)
    ticket, _ = tickets.issue(principal(known, "crm"), "call", "c1", direction)
    assert (await tickets.redeem(ticket, "call", "c1")).scopes == scopes


async def test_it_can_be_for_a_conference_with_the_longest_id() -> None:
    known = tokens(grant("crm"))
    tickets, identity = Tickets(KEY, known), "\U00020000" * 128
    ticket, _ = tickets.issue(principal(known, "crm"), "conference", identity, "both")
    assert (await tickets.redeem(ticket, "conference", identity)).id == "crm"


async def test_a_token_revoked_while_other_workers_are_queried_redeems_nothing() -> None:
    known = tokens(grant("crm"))

    async def claim(_: str) -> bool:
        known.take(tokens(), 0.0)
        return True

    tickets = Tickets(KEY, known, claim)
    ticket, _ = tickets.issue(principal(known, "crm"), "events", "", "events")
    assert "no longer valid" in await refusal(tickets, ticket, kind="events", identity="")


async def test_it_is_valid_for_half_a_minute() -> None:
    clock, known = Clock(), tokens(grant("crm"))
    tickets = Tickets(KEY, known, clock=clock)
    early, expires = tickets.issue(principal(known, "crm"), "call", "c1", "both")
    late, _ = tickets.issue(principal(known, "crm"), "call", "c1", "both")
    assert expires == clock.now + 30
    clock.now += VALID_S - 0.1
    await tickets.redeem(early, "call", "c1")
    clock.now += 0.1
    assert "expired" in await refusal(tickets, late)
    assert "expired" in await refusal(tickets, early)


async def test_it_ends_with_the_token_that_it_was_requested_with() -> None:
    clock, known = Clock(), tokens(grant("crm"), grant("soon", expires=Clock.now + 10))
    tickets = Tickets(KEY, known, clock=clock)
    one, _ = tickets.issue(principal(known, "crm"), "call", "c1", "both")
    two, _ = tickets.issue(principal(known, "soon"), "call", "c1", "both")
    clock.now += 10
    assert "no longer valid" in await refusal(tickets, two)
    known.take(tokens(grant("other")), 0.0)
    assert "no longer valid" in await refusal(tickets, one)


@pytest.mark.parametrize("spoil", [
    lambda ticket: ticket[:0],
    lambda ticket: ticket[:0] + ".",
    lambda ticket: ticket[:-1],
    lambda ticket: ticket.replace(".", ""),
    lambda ticket: ticket + "A",
    lambda ticket: "A" + ticket,
    lambda ticket: ticket.swapcase(),
    lambda ticket: "ü." + ticket,
    lambda ticket: (ticket[:0] + "\udcff.") * 10_000,
    lambda ticket: ticket.partition(".")[0] + ".",
])  # fmt: skip
async def test_anything_else_is_no_ticket(spoil: Any) -> None:
    known = tokens(grant("crm"))
    tickets = Tickets(KEY, known)
    ticket, _ = tickets.issue(principal(known, "crm"), "call", "c1", "both")
    assert "not issued by this server" in await refusal(tickets, spoil(ticket))
    assert "not issued by this server" in await refusal(Tickets(b"x" * 32, known), ticket)


async def test_workers_with_one_key_take_each_others_tickets_once_in_all() -> None:
    known, claimed = tokens(grant("crm")), set[str]()

    async def claim(nonce: str) -> bool:
        free = nonce not in claimed
        claimed.add(nonce)
        return free

    one, two = Tickets(KEY, known, claim), Tickets(KEY, known, claim)
    ticket, _ = one.issue(principal(known, "crm"), "call", "c1", "both")
    await two.redeem(ticket, "call", "c1")
    assert "has been used" in await refusal(one, ticket)
    assert "has been used" in await refusal(two, ticket)


async def new_ticket(client: Any, token: str, path: str, body: object = None) -> Any:
    async with client.post(path, headers=headers(token), json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return answer


async def test_a_browser_listens_by_a_ticket(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    pbx = Pbx()
    pbx.add("c1")
    pbx.add("c2")
    async with clients(pbx, grant("ear", "streams:listen")) as client:
        answer = await new_ticket(client, "ear", "/v1.0/calls/c1/tickets", {"direction": "listen"})
        ticket = answer["ticket"]
        assert answer["direction"] == "listen"
        path = f"{STREAM}&ticket={ticket}"
        other = path.replace("c1", "c2")
        assert await status_and_reason(client, "GET", other, headers=UPGRADE) == (401, "INVALID_CREDENTIALS")
        listening = {"headers": UPGRADE | {"Origin": "https://app.example"}}
        assert (await status_and_reason(client, "GET", path + "&direction_speak=none", **listening))[0] == 101
        again = await status_and_reason(client, "GET", path + "&direction_speak=none", **listening)
        assert again == (401, "INVALID_CREDENTIALS")
        assert await status_and_reason(client, "GET", f"/v1.0/calls?ticket={ticket}") == (
            401,
            "AUTHENTICATION_REQUIRED",
        )
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("bridge")]
    assert any("media_stream" in line for line in logged)
    assert not [line for line in logged if ticket.partition(".")[0] in line]


@pytest.mark.parametrize(
    ("direction", "query", "expected"),
    [
        ("listen", "", (403, "SCOPE_MISSING")),
        ("listen", "&direction_speak=none", (101, "")),
        ("speak", "", (403, "SCOPE_MISSING")),
        ("speak", "&direction_speak=none", (403, "SCOPE_MISSING")),
        ("speak", "&direction_listen=none", (101, "")),
        ("both", "", (101, "")),
    ],
)
async def test_a_ticket_is_for_its_direction(direction: str, query: str, expected: tuple[int, str]) -> None:
    pbx = Pbx()
    pbx.add("c1")
    async with clients(pbx, grant("all")) as client:
        ticket = (await new_ticket(client, "all", "/v1.0/calls/c1/tickets", {"direction": direction}))["ticket"]
        answer = await status_and_reason(client, "GET", f"{STREAM}&ticket={ticket}{query}", headers=UPGRADE)
        assert answer == expected


async def test_a_wrong_token_beside_a_ticket_is_rejected_and_the_ticket_stays_good() -> None:
    pbx = Pbx()
    pbx.add("c1")
    async with clients(pbx, grant("all")) as client:
        ticket = (await new_ticket(client, "all", "/v1.0/calls/c1/tickets", {"direction": "both"}))["ticket"]
        path = f"{STREAM}&ticket={ticket}"
        wrong = {"headers": UPGRADE | {"Authorization": "Bearer wrong"}}
        assert await status_and_reason(client, "GET", path, **wrong) == (401, "INVALID_CREDENTIALS")
        assert await status_and_reason(client, "GET", path, headers=UPGRADE) == (101, "")


async def test_who_may_request_which_ticket() -> None:
    pbx = Pbx()
    pbx.add("c1")
    pbx.add("c2")
    few = Grant(
        "few", frozenset[Scope]({"streams:listen"}), reach=Reach(Patterns(["1001"]), conferences=Patterns(["sales"]))
    )
    names = {"c1": PartyNames(frozenset({"1001"}))}
    grants = (grant("ear", "streams:listen"), grant("mouth", "streams:speak"), grant("reader", "calls:read"), few)
    async with clients(pbx, *grants, participants=lambda identity: names.get(identity, PartyNames())) as client:

        async def asked(token: str, direction: str, path: str = "/v1.0/calls/c1/tickets") -> tuple[int, str]:
            return await status_and_reason(client, "POST", path, headers=headers(token), json={"direction": direction})

        missing = (403, "SCOPE_MISSING")
        assert [await asked("ear", each) for each in ("listen", "speak", "both")] == [(200, ""), missing, missing]
        assert [await asked("mouth", each) for each in ("listen", "speak", "both")] == [missing, (200, ""), missing]
        assert await asked("reader", "listen") == missing
        assert await asked("few", "listen") == (200, "")
        assert await asked("few", "listen", "/v1.0/calls/c2/tickets") == (404, "CALL_NOT_FOUND")
        assert await asked("ear", "listen", "/v1.0/calls/c9/tickets") == (404, "CALL_NOT_FOUND")
        assert await asked("few", "listen", "/v1.0/conferences/sales/tickets") == (200, "")
        assert await asked("few", "listen", "/v1.0/conferences/room/tickets") == (404, "CONFERENCE_NOT_FOUND")
        assert await asked("ear", "sideways") == (400, "INVALID_BODY")


async def test_events_by_a_ticket_are_those_that_its_token_sees() -> None:
    pbx, events = Pbx(), Events()
    sockets = EventSockets(events)
    few = Grant("few", frozenset[Scope]({"events"}), reach=Reach(Patterns(["1001"]), conferences=Patterns(["lobby"])))
    names = {"c1": PartyNames(frozenset({"1001"}))}
    backend = pbx.backend(events=sockets.handle, participants=lambda identity: names.get(identity, PartyNames()))
    application = server.build(backend, tokens(few), strict=True)
    async with TestClient(TestServer(application)) as client:
        ticket = (await new_ticket(client, "few", "/v1.0/events/tickets"))["ticket"]
        async with client.ws_connect(f"/v1.0/events?ticket={ticket}") as socket:
            events.publish("call_created", {"id": "c2"})
            events.publish("dtmf_received", {"call_id": "c2", "digit": "1"})
            events.publish("conference_joined", {"conference_id": "sales", "call_id": "c1"})
            # The name of a participant is the caller's to choose; it is not that of the conference.
            events.publish("conference_joined", {"conference_id": "board", "call_id": "c2", "name": "lobby"})
            events.publish("conference_created", {"conference_id": "r1", "name": "lobby", "kind": "bridge"})
            events.publish("stream_started", {"id": "s1", "call_id": "", "conference_id": "sales"})
            events.publish("recording_started", {"id": "r1", "call_id": "c2"})
            events.publish("call_created", {"id": "c1"})
            events.publish("flow_started", {"call_id": "c1"})
            seen = [(await socket.receive_json())["type"] for _ in range(3)]
            assert seen == ["conference_created", "call_created", "flow_started"]
            sockets.end_of_principal("other")
            sockets.end_of_principal("few")
            message = await socket.receive()
            assert message.data == 1008
