"""Two verbs are carried out; everything else is refused, and XML's traps with it."""

from __future__ import annotations

import pytest

from bridge.api.twiml import MAX_CHARACTERS, Dial, Hangup, TwimlRefused, parse


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("<Response><Hangup/></Response>", Hangup()),
        ('<?xml version="1.0" encoding="UTF-8"?>\n<Response>\n <Hangup></Hangup>\n</Response>', Hangup()),
        ("<Response/>", Hangup()),
        ("<Response><!-- bye --></Response>", Hangup()),
        ("<Response><Dial>+49 30 12345</Dial></Response>", Dial("+493012345")),
        ("<Response><Dial>\n <Number>1002</Number>\n</Dial></Response>", Dial("1002")),
        ("<Response><Dial>*97</Dial></Response>", Dial("*97")),
    ],
)
def test_what_is_done(text: str, verb: Hangup | Dial) -> None:
    assert parse(text) == verb


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("", 12100, "XML"),
        ("hang up", 12100, "XML"),
        ("<Response><Hangup></Response>", 12100, "XML"),
        ("<Response/>x", 12100, "XML"),
        ("<Response>" + " " * MAX_CHARACTERS + "</Response>", 12100, "longer"),
        ('<!DOCTYPE r [<!ENTITY a "aaaa">]><Response><Dial>&a;</Dial></Response>', 12100, "DOCTYPE"),
        ('<!DOCTYPE r SYSTEM "file:///etc/passwd"><Response/>', 12100, "DOCTYPE"),
        ("<Response><Dial>&a;</Dial></Response>", 12100, "XML"),
        ("<Hangup/>", 12200, "Response"),
        ("<response><Hangup/></response>", 12200, "Response"),
        ("<Response>text</Response>", 12200, "text"),
        ("<Response><Hangup/>text</Response>", 12200, "text"),
        ("<Response><Say>hello</Say></Response>", 12200, "Say"),
        ("<Response><Redirect>/x</Redirect></Response>", 12200, "Redirect"),
        ('<Response><Connect><Stream url="wss://x"/></Connect></Response>', 12200, "Connect"),
        ("<Response><Dial>1</Dial><Hangup/></Response>", 12200, "2 verbs"),
        ("<Response><Hangup>now</Hangup></Response>", 12200, "Hangup"),
        ('<Response><Hangup reason="x"/></Response>', 12200, "reason"),
        ('<Response><Dial callerId="1">1002</Dial></Response>', 12200, "callerId"),
        ("<Response><Dial/></Response>", 12200, "number"),
        ("<Response><Dial>1002,1003</Dial></Response>", 12200, "number"),
        ("<Response><Dial>1002&amp;SIP/x</Dial></Response>", 12200, "number"),
        ("<Response><Dial>1<Number>2</Number></Dial></Response>", 12200, "number"),
        ("<Response><Dial><Number>2</Number>1</Dial></Response>", 12200, "number"),
        ("<Response><Dial><Sip>sip:x@y</Sip></Dial></Response>", 12200, "number"),
        ("<Response><Dial><Number>1</Number><Number>2</Number></Dial></Response>", 12200, "number"),
        ("<Response><Dial>" + "1" * 65 + "</Dial></Response>", 12200, "number"),
    ],
)
def test_what_is_refused(text: str, code: int, word: str) -> None:
    with pytest.raises(TwimlRefused) as caught:
        parse(text)
    assert caught.value.code == code
    assert word in str(caught.value)
