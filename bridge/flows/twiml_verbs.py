"""TwiML's verbs: their attributes and nouns, and the actions that implement them.

Source: twilio.com/docs/voice/twiml (2026). docs/reference/twiml.md lists what is supported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urljoin
from xml.etree.ElementTree import Element

from bridge.flows.recording_callbacks import recording_events

UNSUPPORTED = "twiml_unsupported"
MAX_LOOPS = 100
"""Repetitions of a sentence or sound whose ``loop`` is 0, which at the vendor is a thousand."""
MAX_RECORDING_S = 14_400
Made = tuple[str, Mapping[str, Any]]
"""The name of an action, and its options."""
_PARTS = re.compile(r"[wW]|[^wW]+")
_WAITS_MS = {"w": 500, "W": 1000}
_SENT = re.compile(r"[0-9A-Da-d*#wW]{1,32}")
_USER = re.compile(r"(?:sips?:)?([^@;?]+)")
DTMF = "0123456789*#"


class Verb:
    """One element: reads its attributes, and notes what is not supported.

    Args:
        element: the element.
        base: the URL of the document; empty: it has none.
    """

    def __init__(self, element: Element, base: str) -> None:
        self.element = element
        self.base = base
        self.problems: list[str] = []
        self._left = dict(element.attrib)

    @property
    def text(self) -> str:
        """The text of the element and of all elements within it, in one line."""
        return " ".join("".join(self.element.itertext()).split())

    def wrong(self, reason: str) -> None:
        """Record a problem."""
        self.problems.append(f"<{self.element.tag[:40]}>: {reason}")

    def value(self, name: str, default: str = "") -> str:
        """Return an attribute."""
        return self._left.pop(name, default).strip()

    def one_of(self, name: str, *values: str) -> str:
        """Return an attribute with one of some values; the first is the default."""
        given = self.value(name, values[0])
        if given in values:
            return given
        self.wrong(f"{name}={given[:40]!r} is not supported; expected {' or '.join(values)}")
        return values[0]

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return an attribute as an integer, brought into a range."""
        given = self.value(name)
        if not given:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", given):
            self.wrong(f"{name}={given[:40]!r} is not a number")
            return default
        return min(max(int(given), low), high)

    def switch(self, name: str, default: bool = False) -> bool:
        """Return an attribute that is true or false."""
        return self.one_of(name, *(("true", "false") if default else ("false", "true"))) == "true"

    def url(self, given: str, *schemes: str) -> str:
        """Return an absolute URL; empty, with a problem, if there is none."""
        try:
            whole = urljoin(self.base, given)
        except ValueError:  # an invalid IPv6 address
            whole = ""
        # ``${`` is not for variables here, and is not valid in a URL.
        whole = whole.replace("{", "%7B").replace("}", "%7D")
        if not re.match(rf"(?:{'|'.join(schemes or ('http', 'https'))})://[^/\s]+", whole):
            self.wrong(f"{given[:80]!r} is not a URL")
            return ""
        return whole

    def action(self, *, default: bool) -> dict[str, str]:
        """Return the options for the document that follows the verb.

        Args:
            default: without an attribute it is the current document.
        """
        given = self.value("action")
        method = self.one_of("method", "POST", "GET")
        if not given and not (default and self.base):
            return {}
        return {"action_url": self.url(given or self.base), "action_method": method}

    def loops(self) -> int:
        """Return how often a sentence or a sound is played."""
        return self.number("loop", 1, 0, MAX_LOOPS) or MAX_LOOPS

    def within(self, *tags: str) -> list[Verb]:
        """Return the inner elements, except those that are not supported there."""
        found = []
        for each in self.element:
            if each.tag in tags:
                found.append(Verb(each, self.base))
            else:
                self.wrong(f"<{each.tag[:40]}> inside of it is not supported")
        return found

    def rest(self) -> None:
        """Record every attribute that was not read as unsupported."""
        for name in self._left:
            self.wrong(f"the attribute {name[:40]} is not supported")

    def take(self, other: Verb) -> None:
        """Record the problems of an inner element."""
        other.rest()
        self.problems += other.problems


def digits_and_waits(digits: str) -> list[int | str]:
    """Return DTMF digits with waits in them (``w``: half a second, ``W``: one second) as digits and milliseconds."""
    return [_WAITS_MS.get(part, part) for part in _PARTS.findall(digits)]


def check_digits(digits: str) -> str:
    """Return the DTMF digits that are sent when a call is answered.

    Raises:
        ValueError: they are not valid.
    """
    if digits and not _SENT.fullmatch(digits):
        raise ValueError(f"{digits[:40]!r} is not valid; expected at most 32 of 0-9, A-D, *, #, w and W")
    return digits


def sending(digits: str) -> Iterable[Made]:
    """Return the actions that send DTMF digits with waits in them."""
    for part in digits_and_waits(digits):
        yield ("pause", {"duration": part}) if isinstance(part, int) else ("digits_send", {"digits": part})


def _say(verb: Verb) -> Iterable[Made]:
    text, language, voice, loops = verb.text, verb.value("language"), verb.value("voice"), verb.loops()
    if text:
        yield "talk", {"text": text, "language": language, "voice_id": voice, "times": loops}


def _play(verb: Verb) -> Iterable[Made]:
    loops, digits = verb.loops(), verb.value("digits")
    yield from sending(digits)
    if verb.text and (url := verb.url(verb.text)):
        yield "play", {"stream_urls": [url], "times": loops}
    elif not digits:
        verb.wrong("expected the URL of a sound")


def _pause(verb: Verb) -> Iterable[Made]:
    yield "pause", {"duration": 1000 * verb.number("length", 1, 0, 86_400)}


PROMPTS: Mapping[str, Callable[[Verb], Iterable[Made]]] = {"Say": _say, "Play": _play, "Pause": _pause}


def _gather(verb: Verb) -> Iterable[Made]:
    if (kind := verb.value("input", "dtmf")) != "dtmf":
        verb.wrong(f"input={kind[:40]!r} is not supported; only DTMF is received")
    for name in ("language", "hints", "speechTimeout", "speechModel", "enhanced", "profanityFilter"):
        verb.value(name)  # speech only, which was reported
    options = {
        "duration": 1000 * verb.number("timeout", 5, 0, 86_400),
        "key": verb.value("finishOnKey", "#"),
        "length": verb.number("numDigits", 0, 0, 100),
        "on_empty": verb.switch("actionOnEmptyResult"),
        **verb.action(default=True),
    }
    for each in verb.within(*PROMPTS):
        for does, given in PROMPTS[each.element.tag](each):
            yield does, given if does == "digits_send" else {**given, "digits_handle": "next"}
        verb.take(each)
    yield "twiml_gather", options


def _dial(verb: Verb) -> Iterable[Made]:
    caller_id = verb.value("callerId")
    verb.switch("answerOnBridge")  # always so
    options: dict[str, Any] = {"timeout": verb.number("timeout", 30, 1, 600), **verb.action(default=False)}
    if caller_id:
        options["source"] = {"type": "tel", "target": caller_id}
    nouns = verb.within("Number", "Client", "Sip", "Conference")
    destinations, send_digits = [], []
    for noun in nouns:
        if noun.element.tag == "Conference":
            yield "twiml_conference", _conference(noun, options)
        else:
            user = _USER.match(noun.text)
            kind = "" if noun.element.tag == "Number" else "extension"
            target = re.sub(r"\s", "", noun.text) if not kind else user[1] if user else ""
            destinations.append({"type": kind, "target": target})
            send_digits.append("" if kind else _send_digits(noun))
        verb.take(noun)
    if not nouns and (number := re.sub(r"\s", "", verb.element.text or "")):
        destinations.append({"target": number})
    if destinations:
        yield "twiml_dial", {**options, "destinations": destinations, "send_digits": send_digits}
    elif not nouns:
        verb.wrong("expected a number")


def _send_digits(noun: Verb) -> str:
    try:
        return check_digits(noun.value("sendDigits"))
    except ValueError as problem:
        noun.wrong(f"sendDigits={problem}")
        return ""


def _conference(noun: Verb, options: Mapping[str, Any]) -> Mapping[str, Any]:
    found = {
        "name": noun.text,
        "muted": noun.switch("muted"),
        "end_on_exit": noun.switch("endConferenceOnExit"),
        "max_participants": noun.number("maxParticipants", 0, 0, 10_000),
    }
    noun.one_of("startConferenceOnEnter", "true")
    noun.one_of("beep", "false")
    return {**found, **{key: options[key] for key in ("action_url", "action_method") if key in options}}


def _record(verb: Verb) -> Iterable[Made]:
    keys = verb.value("finishOnKey", "1234567890*#")
    if keys not in ("", "*", "#") and set(keys) != set(DTMF):
        verb.wrong(f"finishOnKey={keys[:40]!r} is not supported; any digit ends the recording")
    options: dict[str, Any] = {}
    if callback := verb.value("recordingStatusCallback"):
        options = {"callback_url": verb.url(callback)}
    options["callback_method"] = verb.one_of("recordingStatusCallbackMethod", "POST", "GET")
    try:
        options["callback_events"] = [*recording_events(verb.value("recordingStatusCallbackEvent"))]
    except ValueError as problem:
        verb.wrong(f"recordingStatusCallbackEvent={problem}")
    yield (
        "twiml_record",
        {
            **options,
            "direction": "in",
            "end_of_silence": verb.number("timeout", 5, 0, 86_400),
            "end_of_key": "none" if not keys else keys if keys in ("*", "#") else "any",
            "duration": verb.number("maxLength", 3600, 1, MAX_RECORDING_S),
            "beep_start": verb.switch("playBeep", default=True),
            **verb.action(default=True),
        },
    )


def _redirect(verb: Verb) -> Iterable[Made]:
    method = verb.one_of("method", "POST", "GET")
    if (verb.text or verb.base) and (url := verb.url(verb.text or verb.base)):
        yield "twiml_redirect", {"url": url, "method": method}


def _reject(verb: Verb) -> Iterable[Made]:
    yield "hangup", {"reason": {"rejected": "failed", "busy": "busy"}[verb.one_of("reason", "rejected", "busy")]}


def _hangup(_: Verb) -> Iterable[Made]:
    yield "hangup", {}


def _enqueue(verb: Verb) -> Iterable[Made]:
    verb.within()
    yield "twiml_enqueue", {"queue_id": verb.text, **verb.action(default=False)}


def _connect(verb: Verb) -> Iterable[Made]:
    following = verb.action(default=False)
    streams = verb.within("Stream")
    for stream in streams[:1]:
        stream.one_of("track", "inbound_track")
        yield "twiml_stream", {**_stream(stream), "connect": True}
        verb.take(stream)
    if len(streams) != 1:
        verb.wrong("expected one <Stream>")
    if following.get("action_url"):
        yield "twiml_redirect", {"url": following["action_url"], "method": following["action_method"]}


def _start(verb: Verb) -> Iterable[Made]:
    for stream in verb.within("Stream"):
        track = stream.one_of("track", "inbound_track", "outbound_track", "both_tracks")
        yield "twiml_stream", {**_stream(stream), "tracks": track}
        verb.take(stream)


def _stop(verb: Verb) -> Iterable[Made]:
    for stream in verb.within("Stream"):
        yield "stream", {"action": "stop", "stream_name": stream.value("name")}
        verb.take(stream)


def _stream(stream: Verb) -> dict[str, Any]:
    parameters: dict[str, str] = {}
    for each in stream.within("Parameter"):
        name, value = each.value("name"), each.value("value")
        if name:
            parameters[name] = value
        stream.take(each)
    url = stream.url(stream.value("url"), "wss", "ws")
    options: dict[str, Any] = {
        "url": url,
        "dialect": "twilio",
        "stream_name": stream.value("name"),
        "parameters": parameters,
    }
    if callback := stream.value("statusCallback"):
        options["callback_url"] = stream.url(callback)
    return {**options, "callback_method": stream.one_of("statusCallbackMethod", "POST", "GET")}


VERBS: Mapping[str, Callable[[Verb], Iterable[Made]]] = {
    **PROMPTS,
    "Gather": _gather,
    "Dial": _dial,
    "Record": _record,
    "Redirect": _redirect,
    "Reject": _reject,
    "Hangup": _hangup,
    "Enqueue": _enqueue,
    "Connect": _connect,
    "Start": _start,
    "Stop": _stop,
}
