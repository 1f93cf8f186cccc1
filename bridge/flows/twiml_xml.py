"""Parse a TwiML document into its elements: XML without a DOCTYPE, bounded in size, depth and number. Pure."""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

MAX_BYTES = 65_536
"""The vendor's limit of a document."""
MAX_ELEMENTS = 1000
MAX_DEPTH = 10


class InvalidTwiml(ValueError):
    """A string that is not a TwiML document."""


def elements(text: str) -> Element:
    """Return the root of a document.

    Args:
        text: the document.

    Raises:
        InvalidTwiml: it is too large, is not XML, or does not begin with ``<Response>``.
    """
    size = len(text.encode(errors="replace"))
    if size > MAX_BYTES:
        raise InvalidTwiml(f"the document has {size} bytes; expected at most {MAX_BYTES}")
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    depth = count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH:
            raise InvalidTwiml(f"the document's elements are nested more than {MAX_DEPTH} levels deep")
        if count > MAX_ELEMENTS:
            raise InvalidTwiml(f"the document has more than {MAX_ELEMENTS} elements")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    # Without a DOCTYPE no entity can be declared, and none expands or reads files.
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        # A string is UTF-8 here, whatever its declaration specifies.
        parser.Parse(text, True)
        root = builder.close()
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise InvalidTwiml(f"the document is not XML: {error}") from None
    if root.tag != "Response":
        raise InvalidTwiml(f"the document begins with <{root.tag[:40]}>; expected <Response>")
    return root


def _refuse_doctype(*_: object) -> None:
    raise InvalidTwiml("the document has a DOCTYPE, which TwiML does not allow")
