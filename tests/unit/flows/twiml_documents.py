"""Documents that tests run on a call, and the requests that follow them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import parse_qsl

from bridge.flows.interpreter import Run
from bridge.flows.program import Document, End, Program
from bridge.flows.syntax import parse
from bridge.flows.variables import Variables
from bridge.flows.web import ServerResponse
from tests.unit.flows.fake_legs import FakeLeg
from tests.unit.flows.world import ACCOUNT, TOKEN, World

URL = "https://app.example.org/voice"


def document(*verbs: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{"".join(verbs)}</Response>'


def inline(*verbs: str, url: str = URL) -> Document:
    return Document(document(*verbs), url)


def run_of(world: World, program: Program, leg: FakeLeg | None = None, flow_id: str = "") -> Run:
    some: Any = leg or world.leg()
    return Run(
        *(some, program),
        principal=TOKEN,
        services=world.services,
        flows=world.flow_manager(),
        variables=Variables(),
        flow_id=flow_id,
    )


async def done(world: World, *verbs: str, leg: FakeLeg | None = None) -> tuple[Run, End]:
    run = run_of(world, parse(inline(*verbs)), leg)
    return run, await run.run()


def answers(world: World, **documents: str) -> None:
    """Let the server answer requests by the last segment of their path."""
    for name, text in documents.items():
        world.web.answers[f"https://app.example.org/{name}"] = ServerResponse(200, text.encode())


def form(world: World, index: int = -1) -> dict[str, str]:
    body = world.web.asked[index][2]
    return dict(parse_qsl((body or b"").decode(), keep_blank_values=True))


def signed(world: World, index: int = -1) -> bool:
    """Return whether a request has the signature that the vendor documents."""
    _, url, _, headers = world.web.asked[index]
    text = url + "".join(f"{name}{value}" for name, value in sorted(form(world, index).items()))
    wanted = base64.b64encode(hmac.new(ACCOUNT.token.encode(), text.encode(), hashlib.sha1).digest()).decode()
    return headers["X-Twilio-Signature"] == wanted
