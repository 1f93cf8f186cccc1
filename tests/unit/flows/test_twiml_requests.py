"""Requests for documents: their parameters, the fallback, which server is trusted, and resuming."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec.structs import replace

from bridge.config import Config
from bridge.flows import twiml
from bridge.flows.actions.twiml import APOLOGY
from bridge.flows.flow_config import flows_of
from bridge.flows.program import Document
from bridge.flows.resuming import program_fact, program_of_fact
from bridge.flows.syntax import parse
from bridge.flows.web import ServerResponse, WebFailed
from tests.fakes.virtual_time import now, pass_time, run_virtually
from tests.unit.flows.twiml_documents import URL, answers, document, form, run_of
from tests.unit.flows.world import ACCOUNT, World


@pytest.mark.parametrize("fragment", ["", "#rc=2&rp=all"])
def test_parameters_of_a_get_are_in_the_signed_url(fragment: str) -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        await run_of(world, twiml.entry(f"{URL}?a=b%20c{fragment}", "GET"), leg).run()
        method, url, body, headers = world.web.asked[0]
        query = parse_qs(urlsplit(url).query)
        assert (method, body, query["a"], query["From"]) == ("GET", None, ["b c"], ["+4930111"])
        assert "#" not in url
        wanted = hmac.new(ACCOUNT.token.encode(), url.encode(), hashlib.sha1).digest()
        assert headers["X-Twilio-Signature"] == base64.b64encode(wanted).decode()

    run_virtually(act())


def test_a_document_and_a_webhook_may_follow_digits_and_are_resumed_so() -> None:
    async def act() -> None:
        text = document("<Say>Hello</Say>")
        for program in (parse(Document(text, send_digits="W12w#")), twiml.entry(URL, send_digits="W12w#")):
            world = World()
            answers(world, voice=text)
            leg, began = world.leg(), now()
            again = program_of_fact(program_fact(program) or {})
            assert [each.does for each in again.actions] == [each.does for each in program.actions]
            await run_of(world, again, leg).run()
            sent = [(when - began, what[1]) for when, *what in leg.did if what[0] == "send_digits"]
            assert sent == [(1, "12"), (1.5, "#")]
            assert [said.text for said in world.speech.said] == ["Hello"]

    run_virtually(act())


def test_the_fallback_is_requested_and_the_caller_hears_a_message_without_it() -> None:
    async def act() -> None:
        for broken in (ServerResponse(500, b""), ServerResponse(200, b"no document"), WebFailed("nobody there")):
            world = World()
            world.web.answers[URL] = broken
            answers(world, plan_b=document("<Say>Plan B</Say>"))
            await run_of(world, twiml.entry(URL, fallback_url="https://app.example.org/plan_b")).run()
            assert [said.text for said in world.speech.said] == ["Plan B"]
            assert form(world)["ErrorUrl"] == URL
            world = World()
            world.web.answers[URL] = broken
            leg = world.leg()
            await run_of(world, twiml.entry(URL), leg).run()
            assert [said.text for said in world.speech.said] == [APOLOGY]
            assert leg.gone.is_set()
            world = World()
            leg = world.leg(answered=False)
            await run_of(world, twiml.entry(URL, continues=True), leg).run()
            assert leg.did == []  # left to the dialplan, unanswered

    run_virtually(act())


def test_a_later_document_has_the_fallback_of_the_first() -> None:
    async def act() -> None:
        world = World()
        answers(world, voice=document("<Redirect>lost</Redirect>"), plan_b=document("<Say>Plan B</Say>"))
        await run_of(world, twiml.entry(URL, fallback_url="https://app.example.org/plan_b")).run()
        assert [url.rpartition("/")[2] for _, url, _, _ in world.web.asked] == ["voice", "lost", "plan_b"]
        assert [said.text for said in world.speech.said] == ["Plan B"]

    run_virtually(act())


def test_urls_on_the_configured_server_are_the_administrators() -> None:
    async def act() -> None:
        world = World()
        for other in ("https://elsewhere.example/x", "https://app.example.org:8088/x", "http://app.example.org/x"):
            answers(
                world,
                voice=document("<Redirect>next</Redirect>"),
                next=document(f"<Redirect>{other}</Redirect>"),
            )
            world.web.configured.clear()
            await run_of(world, replace(twiml.entry(URL), configured=True)).run()
            assert world.web.configured == [True, True, False]

    run_virtually(act())


def test_a_document_after_a_redirect_has_the_trust_of_the_server_that_it_came_from() -> None:
    async def act() -> None:
        world = World()
        moved = "https://elsewhere.example/a/voice"
        text = document("<Redirect>next</Redirect>").encode()
        world.web.answers[URL] = ServerResponse(200, text, moved)
        world.web.answers["https://elsewhere.example/a/next"] = ServerResponse(
            200, document(f"<Redirect>{URL}2</Redirect>").encode()
        )
        await run_of(world, replace(twiml.entry(URL), configured=True)).run()
        assert [url for _, url, _, _ in world.web.asked] == [URL, "https://elsewhere.example/a/next", f"{URL}2"]
        assert world.web.configured == [True, False, False]

    run_virtually(act())


def test_urls_of_a_route_may_have_templates() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        leg.variables["TENANT"] = "a/b?c"
        route = {
            "id": "agent",
            "match": "750",
            "twiml_url": "https://app.example.org/{TENANT}/{did}?from={caller}&as={{caller}}",
            "twiml_fallback_url": "https://app.example.org/sorry/{call_id}",
            "status_callback": "https://app.example.org/status?call={call_id}",
            "channel_variables": ["TENANT", "UNUSED"],
        }
        config = Config.model_validate({"dialplan": [route]})
        (flow,) = flows_of(config)
        assert flow.program is not None
        await run_of(world, flow.program, leg).run()
        world.records.failed("call-1")
        await pass_time(1)
        assert [url for _, url, _, _ in world.web.asked] == [
            "https://app.example.org/a%2Fb%3Fc/..%2F750?from=%2B49%2030/111&as=%7Bcaller%7D",
            "https://app.example.org/sorry/call-1",
            "https://app.example.org/status?call=call-1",
        ]
        assert world.web.configured == [True, True, True]
        await world.status_callbacks.close()

    run_virtually(act())


def test_doubled_braces_are_literal_without_a_template_too() -> None:
    async def act() -> None:
        world = World()
        route = {"id": "agent", "match": "750", "twiml_url": f"{URL}?as={{{{caller}}}}", "channel_variables": []}
        (flow,) = flows_of(Config.model_validate({"dialplan": [route]}))
        assert flow.program is not None
        await run_of(world, flow.program).run()
        assert [url for _, url, _, _ in world.web.asked] == [f"{URL}?as=%7Bcaller%7D"]

    run_virtually(act())


def test_urls_of_requests_have_no_templates() -> None:
    async def act() -> None:
        world = World()
        await run_of(world, twiml.entry(f"{URL}?a={{caller}}")).run()
        assert [url for _, url, _, _ in world.web.asked] == [f"{URL}?a=%7Bcaller%7D"]

    run_virtually(act())


def test_documents_survive_a_restart() -> None:
    first = replace(twiml.entry(URL, fallback_url=URL + "2"), configured=True)
    again = program_of_fact(program_fact(first) or {})
    assert (again.actions[0].options, again.configured) == (first.actions[0].options, True)
    fetched = parse(Document(document("<Say>x</Say>"), URL, "app.example.org:443"))
    again = program_of_fact(program_fact(fetched) or {})
    assert (again.server, again.literal, again.actions[0].options) == (
        "app.example.org:443",
        True,
        fetched.actions[0].options,
    )
