"""Data actions: variable_set, fetch, fetch_flow, webhook_send; and Voxology's REDIRECT and SESSIONDATA."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from bridge.flows import callbacks, expression
from bridge.flows.action_registry import ActionFailed, Missing, action
from bridge.flows.action_settings import ActionSettings
from bridge.flows.actions.sound import SwitchOption
from bridge.flows.options import HTTP_URL, IS_HTTP_URL, OR_VARIABLE, Options
from bridge.flows.program import Enter, Program
from bridge.flows.substitution import MAX_BODY_BYTES
from bridge.flows.variables import MAX_VALUE_BYTES, OWN_PREFIX, holds_variable, text_of
from bridge.flows.web import ServerResponse

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run

MAX_DATA_CHARACTERS = 64 * 1024
Url = Annotated[str, IS_HTTP_URL, Field(description="an http:// or https:// URL")]


class VariableSetOptions(Options):
    """Options of variable_set."""

    key: Annotated[str, Field(min_length=1, max_length=200, description="a name of 1 to 200 characters")]
    value: Annotated[str, Field(description="a string")] = ""


@action("variable_set", options=VariableSetOptions, after_restart="instant")
async def variable_set(run: Run, options: VariableSetOptions) -> None:
    """Set the variable ``${key}``; names that begin with ``voipbin.`` are reserved."""
    if options.key.startswith(OWN_PREFIX):
        raise ActionFailed(f"key: names that begin with {OWN_PREFIX!r} are reserved")
    run.variables.set(options.key, options.value)


class FetchOptions(Options):
    """Options of fetch: where to get the actions."""

    event_url: Url
    event_method: Annotated[Literal["", "GET", "POST"], Field(description='"GET" or "POST"'), OR_VARIABLE] = "POST"

    untouched: ClassVar[frozenset[str]] = frozenset({"event_url"})

    def urls(self) -> Iterable[tuple[str, str]]:
        """Return the server with the actions."""
        return [("event_url", self.event_url)]


@action("fetch", options=FetchOptions)
async def fetch(run: Run, options: FetchOptions) -> Enter:
    """Run the actions in a server's response, then continue after this action."""
    method = options.event_method or "POST"
    answer = await _ask(run, method, options.event_url, callbacks.voipbin_body(run))
    return Enter(await run.flows.parse(answer.json), returns=True)


class FetchFlowOptions(Options):
    """Options of fetch_flow."""

    flow_id: Annotated[str, Field(min_length=1, max_length=100, description="the id of a flow of the configuration")]


def _flow(options: FetchFlowOptions, settings: ActionSettings) -> Missing:
    if not holds_variable(options.flow_id) and options.flow_id not in settings.flows:
        yield "flow_id", f"unknown flow {options.flow_id[:64]!r}"


@action("fetch_flow", options=FetchFlowOptions, needs=_flow)
async def fetch_flow(run: Run, options: FetchFlowOptions) -> Enter:
    """Run a flow of the configuration, then continue after this action."""
    return Enter(await _configured(run, options.flow_id), returns=True)


@action("enter_flow", options=FetchFlowOptions, internal=True)
async def enter_flow(run: Run, options: FetchFlowOptions) -> Enter:
    """Begin a call with a flow of the configuration, without returning to this action."""
    return Enter(await _configured(run, options.flow_id), returns=False)


async def _configured(run: Run, flow_id: str) -> Program:
    try:
        return await run.flows.program_of(flow_id, run)
    except LookupError as problem:
        raise ActionFailed(f"flow_id: {problem.args[0]}") from None


class WebhookSendOptions(Options):
    """Options of webhook_send."""

    sync: SwitchOption = False
    uri: Url
    method: Annotated[
        Literal["", "GET", "POST", "PUT", "DELETE"], Field(description='"GET", "POST", "PUT" or "DELETE"'), OR_VARIABLE
    ] = "POST"
    data_type: Annotated[
        str, Field(pattern=r"^[\x20-\x7e]{0,100}$", description="a content type, for example application/json")
    ] = "application/json"
    data: Annotated[
        str,
        Field(max_length=MAX_DATA_CHARACTERS, description=f"a string of at most {MAX_DATA_CHARACTERS} characters"),
    ] = ""

    untouched: ClassVar[frozenset[str]] = frozenset({"uri", "data"})

    def urls(self) -> Iterable[tuple[str, str]]:
        """Return the server that receives the request."""
        return [("uri", self.uri)]


@action("webhook_send", options=WebhookSendOptions, after_restart="skip")
async def webhook_send(run: Run, options: WebhookSendOptions) -> None:
    """Send a request; with ``sync``, wait for the response and store it in ``voipbin.webhook.*``."""
    body = run.variables.fill_body(options.data, options.data_type).encode()
    if len(body) > MAX_BODY_BYTES:
        raise ActionFailed(f"data: exceeds {MAX_BODY_BYTES} bytes with its variables")
    headers = {"Content-Type": options.data_type} if options.data_type else {}
    sending = run.services.web.ask(
        options.method or "POST",
        _url(run, options.uri),
        body=body or None,
        headers=headers,
        configured=run.names_host(options.uri),
        flow_id=run.flow_id,
    )
    if not options.sync:
        run.spawn(sending, "webhook_send", len(body))
        return
    answer = await sending
    run.variables.set("voipbin.webhook.status_code", str(answer.status))
    run.variables.set("voipbin.webhook.body", _bounded(answer.text), shown=False)


# Actions behind those of Voxology


class RedirectOptions(Options):
    """Options of redirect: where to get the next actions."""

    url: Url
    method: Annotated[Literal["", "GET", "POST"], Field(description='"GET" or "POST"'), OR_VARIABLE] = "POST"

    untouched: ClassVar[frozenset[str]] = frozenset({"url"})

    def urls(self) -> Iterable[tuple[str, str]]:
        """Return the server with the next actions."""
        return [("url", self.url)]


@action("redirect", options=RedirectOptions, internal=True)
async def redirect(run: Run, options: RedirectOptions) -> Enter:
    """Run the actions in a server's response, and discard the rest of this list."""
    body = callbacks.voxology_body(run, "redirect")
    answer = await _ask(run, options.method or "POST", options.url, body)
    entered = Enter(await run.flows.parse(answer.json), returns=False)
    run.key_presses.clear()
    return entered


class SessionDataOptions(Options):
    """Options of session_data."""

    session_data: Annotated[dict[str, Any], Field(description="an object")]


@action("session_data", options=SessionDataOptions, internal=True)
async def session_data(run: Run, options: SessionDataOptions) -> None:
    """Replace the data that callbacks carry and ``${sessionData.name}`` reads."""
    run.variables.set_session_data(options.session_data)


class AssignOptions(Options):
    """Options of assign: names, and an expression for each."""

    values: dict[str, str]

    untouched: ClassVar[frozenset[str]] = frozenset({"values"})


@action("assign", options=AssignOptions, internal=True, after_restart="instant")
async def assign(run: Run, options: AssignOptions) -> None:
    """Set variables to the values of expressions."""
    for name, written in options.values.items():
        await asyncio.sleep(0)  # yield: there may be many slow expressions
        run.variables.set(name, _bounded(text_of(expression.parse(written)(run.variables))))


async def _ask(run: Run, method: str, url: str, body: dict[str, Any]) -> ServerResponse:
    headers = {"Accept": "application/json"}
    content: bytes | None = None
    if method != "GET":
        headers["Content-Type"] = "application/json"
        content = json.dumps(body).encode()
    return await run.services.web.ask(
        method, _url(run, url), body=content, headers=headers, configured=run.names_host(url), flow_id=run.flow_id
    )


def _url(run: Run, template: str) -> str:
    url = run.variables.fill_url(template)
    if not HTTP_URL.fullmatch(url):
        raise ActionFailed("expected a URL that begins with http:// or https://")
    return url


def _bounded(text: str) -> str:
    return text if len(text.encode()) <= MAX_VALUE_BYTES else text.encode()[:MAX_VALUE_BYTES].decode(errors="ignore")
