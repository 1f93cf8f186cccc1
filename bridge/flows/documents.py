"""The documents of a call: requested one after the other, with a fallback where one is unavailable."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bridge.flows.program import Document, Enter, InvalidFlow
from bridge.flows.substitution import server_of
from bridge.flows.twiml_requests import TwimlMethod, call_parameters, call_status, send
from bridge.flows.web import ServerResponse, WebFailed
from bridge.tls import Trust

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run

log = logging.getLogger(__name__)

FACTS = "document"
"""Key of `Run.facts` with the server of a call's documents: `ServerFacts`."""


class ServerFacts:
    """Facts about the server of a run's documents, in `Run.facts`: plain values, which survive a restart."""

    def __init__(self, run: Run) -> None:
        self._facts: Mapping[str, Any] = run.facts.get(FACTS) or {}

    @property
    def fallback(self) -> tuple[str, TwimlMethod]:
        """The URL that is requested when a document is unavailable, and its method; empty: none."""
        return self._facts.get("fallback_url", ""), self._facts.get("fallback_method", "POST")

    @property
    def continues(self) -> bool:
        """Whether the call continues in the dialplan when no document is available."""
        return bool(self._facts.get("continues", False))

    @property
    def trust(self) -> Trust:
        """The certificates to accept from the configured server."""
        return Trust(self._facts.get("verify_tls", True), self._facts.get("ca_file", ""))


async def request_document(run: Run, method: TwimlMethod, url: str, more: Mapping[str, str]) -> Enter:
    """Request a document, and the fallback where it is unavailable or invalid.

    Args:
        run: the flow.
        method: HTTP method.
        url: an absolute URL.
        more: parameters besides those of every request.

    Returns:
        The document, which replaces the current one.

    Raises:
        WebFailed: there is neither; the message is the first reason.
    """
    server = ServerFacts(run)
    fallback, fallback_method = server.fallback
    try:
        return await _entered(run, method, url, more)
    except (WebFailed, InvalidFlow) as problem:
        reason = WebFailed(str(problem))
        if not fallback or fallback == url:
            raise reason from None
        log.warning("document unavailable, requesting the fallback call=%s error=%s", run.call_id, problem)
        code = 11200 if isinstance(problem, WebFailed) else 12100
    failed = {"ErrorCode": str(code), "ErrorUrl": url}
    try:
        return await _entered(run, fallback_method, fallback, {**more, **failed})
    except (WebFailed, InvalidFlow) as problem:
        log.warning("fallback unavailable call=%s error=%s", run.call_id, problem)
        raise reason from None


async def notify(run: Run, method: TwimlMethod, url: str, more: Mapping[str, str]) -> None:
    """Send the request for the next document although the call has ended; ignore the response."""
    try:
        await _asked(run, method, url, more)
    except WebFailed as problem:
        log.warning("request about an ended call failed call=%s error=%s", run.call_id, problem)


async def _entered(run: Run, method: TwimlMethod, url: str, more: Mapping[str, str]) -> Enter:
    answer = await _asked(run, method, url, more)
    if not 200 <= answer.status < 300:
        raise WebFailed(f"the server responded with status {answer.status}")
    if answer.moved_to:  # the configuration names no server to which another one redirects
        source = Document(answer.text, answer.moved_to)
    else:
        source = Document(answer.text, url, server_of(url) if run.names_host(url) else "")
    return Enter(await run.flows.parse(lambda: source), returns=False)


async def _asked(run: Run, method: TwimlMethod, url: str, more: Mapping[str, str]) -> ServerResponse:
    services = run.services
    record = services.records.get(run.leg.id)
    status = call_status(record, answered=run.leg.answered)
    parameters = call_parameters(services.account, run.call_id, record, status)
    if answered_by := run.variables.get("amd.status"):
        parameters["AnsweredBy"] = {"HUMAN": "human", "MACHINE": "machine_start"}.get(answered_by, "unknown")
    configured = run.names_host(url)
    return await send(
        services.web,
        services.account,
        method,
        url,
        {**parameters, **more},
        configured=configured,
        trust=ServerFacts(run).trust if configured else None,
    )
