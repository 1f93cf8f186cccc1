"""Flows as TwiML documents: ``<Response><Say>..</Say><Gather>..</Gather></Response>``.

Each verb is implemented by actions registered under VoIPBIN's names, or by those of `bridge.flows.actions.twiml`, which
continue with another document. An unknown verb or attribute does not reject a document: an action in its place reports
it, and the call continues with the next verb, as at the vendor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict, replace
from pydantic import ValidationError

from bridge.flows import actions as _actions  # noqa: F401  (registers them)
from bridge.flows.action_registry import DEFINITIONS
from bridge.flows.program import Action, Document, FlowError, InvalidFlow, Program, new_action_id, program
from bridge.flows.twiml_verbs import UNSUPPORTED, VERBS, Made, Verb, sending
from bridge.flows.twiml_xml import InvalidTwiml, elements
from bridge.validation import explain, sentence

__all__ = ["InvalidFlow", "entry", "parse"]


def parse(document: Document) -> Program:
    """Read a document.

    Args:
        document: the document.

    Returns:
        The program.

    Raises:
        InvalidFlow: it is not a document.
    """
    try:
        root = elements(document.text)
    except InvalidTwiml as problem:
        raise InvalidFlow([FlowError(None, "", str(problem), "document")]) from None
    made = _sending(document.send_digits)
    for index, element in enumerate(root):
        found: list[Made] = []
        verb = Verb(element, document.url)
        make = VERBS.get(element.tag)
        if make is None:
            found.append(_unsupported(f"unknown verb <{element.tag[:40]}>"))
        else:
            found += make(verb)
            verb.rest()
            found[:0] = map(_unsupported, verb.problems)
        made += (_action(element.tag, index, does, options) for does, options in found)
    return replace(program(made, "twiml", {"text": asdict(document)}), server=document.server)


def entry(url: str, method: str = "POST", send_digits: str = "", **options: Any) -> Program:
    """Return a program that requests a document.

    Args:
        url: its absolute URL.
        method: HTTP method.
        send_digits: DTMF digits that are sent first.
        options: further options of `bridge.flows.actions.twiml.DocumentOptions`.
    """
    given = {"url": url, "method": method, **options}
    wanted = DEFINITIONS["twiml_document"].options.model_validate(given)
    made = _sending(send_digits)
    made.append(Action(new_action_id(), "Redirect", 0, "twiml_document", wanted))
    return program(made, "twiml", {"document": given | {"send_digits": send_digits}})


def _sending(digits: str) -> list[Action]:
    return [_action("Play", 0, does, options) for does, options in sending(digits)]


def _unsupported(reason: str) -> Made:
    return UNSUPPORTED, {"reason": reason}


def _action(tag: str, index: int, does: str, given: Mapping[str, Any]) -> Action:
    model = DEFINITIONS[does].options
    try:
        options = model.model_validate(given)
    except ValidationError as problem:
        does, reason = UNSUPPORTED, f"<{tag}>: {sentence(explain(problem, model, described=True))}"
        options = DEFINITIONS[UNSUPPORTED].options.model_validate({"reason": reason})
    return Action(new_action_id(), tag[:40], index, does, options)
