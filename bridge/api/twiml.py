"""The few TwiML documents with which a call can be redirected. Others are rejected with a reason, not ignored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

MAX_CHARACTERS = 4000
"""Twilio's limit of the parameter."""
_NUMBER = re.compile(r"[0-9A-Za-z+*#._-]{1,64}")


class TwimlRefused(ValueError):
    """The document is not XML, or requires something that is not supported.

    Args:
        code: Twilio's error code: 12100 for an invalid document, 12200 for what is not supported.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the call."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect the call with another number."""

    number: str


def parse(text: str) -> Hangup | Dial:
    """Parse a document with one verb, ``<Hangup/>`` or ``<Dial>number</Dial>``.

    Without a verb, the call ends, as at Twilio.

    Raises:
        TwimlRefused: the document contains anything else.
    """
    root = _tree(text)
    if root.tag != "Response":
        raise TwimlRefused(12200, f"the document begins with <{root.tag[:40]}>; expected <Response>")
    verbs = list(root)
    if len(verbs) > 1:
        raise TwimlRefused(12200, f"the document has {len(verbs)} verbs; expected one, <Hangup/> or <Dial>")
    if (root.text or "").strip() or any((verb.tail or "").strip() for verb in verbs):
        raise TwimlRefused(12200, "the document has text outside of a verb")
    if not verbs:
        return Hangup()
    verb = verbs[0]
    if verb.tag not in ("Hangup", "Dial"):
        raise TwimlRefused(12200, f"<{verb.tag[:40]}> is not supported; expected <Hangup/> or <Dial>")
    if verb.attrib:
        raise TwimlRefused(12200, f"the attribute {next(iter(verb.attrib))[:40]} of <{verb.tag}> is not supported")
    if verb.tag == "Hangup":
        if len(verb) or (verb.text or "").strip():
            raise TwimlRefused(12200, "<Hangup> is not empty; expected <Hangup/>")
        return Hangup()
    return Dial(_number(verb))


def _number(dial: Element) -> str:
    holder = dial
    if len(dial) == 1 and dial[0].tag == "Number" and not dial[0].attrib and not (dial.text or "").strip():
        holder = dial[0]
    number = re.sub(r"\s", "", holder.text or "")
    if len(holder) or (holder is not dial and (holder.tail or "").strip()) or not _NUMBER.fullmatch(number):
        raise TwimlRefused(12200, "<Dial> must contain one number only, for example <Dial>+493012345</Dial>")
    return number


def _tree(text: str) -> Element:
    if len(text) > MAX_CHARACTERS:
        raise TwimlRefused(12100, f"the document is longer than {MAX_CHARACTERS} characters")
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = (
        _refuse_doctype  # without it no entity can be declared, and none expands or reads files
    )
    try:
        parser.Parse(text, True)
        return builder.close()
    except expat.ExpatError as error:
        raise TwimlRefused(12100, f"the document is not XML: {error}") from None


def _refuse_doctype(*_: object) -> None:
    raise TwimlRefused(12100, "the document has a DOCTYPE, which TwiML does not allow")
