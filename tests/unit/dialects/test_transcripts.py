"""The transcripts in tests/wire/: what a dialect sends and does, message by message. Their format: README.md there."""

import base64
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge import dialects
from bridge.dialects.agent import AgentSettings, ToolSpec
from bridge.dialects.base import (
    CallInfo,
    CallRequest,
    CallTool,
    Clear,
    Command,
    Dialect,
    Dtmf,
    Mark,
    Message,
    Pause,
    Play,
    Reconnect,
    ReportedError,
    Send,
    Stop,
    TrackInfo,
    Transcript,
)
from bridge.dialects.model import ModelDialect
from tests.shapes import differences, examples

WIRE = Path(__file__).parents[2] / "wire"
SEEDS = WIRE / "seeds"
TRANSCRIPTS = sorted(path for name in dialects.known() for path in (WIRE / name).glob("*.txt"))


def to_bytes(words: str) -> bytes:
    """Decode bytes like ``8000 ff*160``."""
    parts = []
    for word in words.split():
        digits, _, times = word.partition("*")
        parts.append(bytes.fromhex(digits) * int(times or 1))
    return b"".join(parts)


def to_words(data: bytes) -> str:
    """Return the shortest of the forms that ``to_bytes`` reads, for comparing and for readable failures."""
    words = []
    at = 0
    while at < len(data):
        end = at
        while end < len(data) and data[end] == data[at]:
            end += 1
        words.append(f"{data[at]:02x}" + (f"*{end - at}" if end - at > 1 else ""))
        at = end
    return " ".join(words)


def command_line(command: Command) -> str:
    match command:
        case Play(pcm, rate):
            return f"= play {rate} {to_words(pcm)}"
        case Clear():
            return "= clear"
        case Mark(name):
            return f"= mark {name}".rstrip()
        case Dtmf(digits):
            return f"= dtmf {digits}"
        case Stop():
            return "= stop"
        case Reconnect():
            return "= reconnect"
        case Send(message):
            return message_line(message).replace("> ", "= send ", 1)
        case Pause(paused):
            return "= pause" if paused else "= continue"
        case CallTool(id, name, arguments):
            return f"= tool {id} {name} {arguments}"
        case Transcript(party, text, final):
            return f"= {party} {'said' if final else 'says'} {text}"
        case CallRequest(name, after_playout, destination):
            more = json.dumps(destination) if destination is not None else "after_playout" if after_playout else ""
            return f"= request {name} {more}".rstrip()
        case ReportedError(text):
            return f"= trouble {text}"


def message_line(message: bytes | str) -> str:
    return f"> text {message}" if isinstance(message, str) else f"> binary {to_words(message)}"


def normal(line: str) -> str:
    """Return the line with its bytes in the form that results have."""
    mark, kind, rest = (*line.split(None, 2), "", "")[:3]
    if (mark, kind) == (">", "binary"):
        return f"> binary {to_words(to_bytes(rest))}"
    if (mark, kind) == ("=", "play"):
        rate, _, words = rest.partition(" ")
        return f"= play {rate} {to_words(to_bytes(words))}"
    return with_base64(line)


def with_base64(text: str) -> str:
    """Replace ``$BYTES$`` with base64."""
    return re.sub(r"\$([^$]*)\$", lambda found: base64.b64encode(to_bytes(found[1])).decode(), text)


def pairs(words: Sequence[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words)


def value(text: str) -> object:
    """Return an option's value: JSON if it is JSON, otherwise a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def settings(table: dict[str, Any]) -> AgentSettings:
    return AgentSettings(**{**table, "tools": [ToolSpec(**tool) for tool in table.get("tools", ())]})


def make(name: str, words: str) -> Dialect:
    options: dict[str, Any] = {key: value(text) for key, text in pairs(words.split()).items()}
    if "seed" in options:
        options["rng"] = random.Random(int(str(options.pop("seed"))))
    kind = dialects.find(name)
    if issubclass(kind, ModelDialect):
        options["agent"] = settings(options.get("agent") or {})
    made = kind(**options)
    made.connected(0.0)
    return made


def opened(dialect: Dialect, now: float, facts: dict[str, str]) -> Sequence[Message]:
    tracks = [each for each in facts.pop("tracks", "").split(",") if each]
    wall = float(facts.pop("wall", 0))
    values: dict[str, Any] = {"call_id": "call", **facts}
    return dialect.opened(CallInfo(**values), tracks, now, wall)


def audio(dialect: Dialect, when: str, track: str, pcm: bytes) -> list[Message]:
    """``when`` is a time, or ``START+STEP*TIMES``."""
    parts = re.fullmatch(r"([\d.]+)(?:\+([\d.]+)\*(\d+))?", when)
    assert parts, when
    start, step_s, times = float(parts[1]), float(parts[2] or 0), int(parts[3] or 1)
    return [message for n in range(times) for message in dialect.audio(track, pcm, start + n * step_s)]


def step(dialect: Dialect, line: str) -> list[str]:
    """Carry out a line, and return the lines that it led to."""
    verb, _, rest = line.partition(" ")
    now, _, argument = rest.partition(" ")
    words = argument.split()
    said: Sequence[Message]
    match verb:
        case "call":
            said = audio(dialect, now, "call", to_bytes(argument))
        case "audio":
            said = audio(dialect, now, words[0], to_bytes(" ".join(words[1:])))
        case "key":
            said = dialect.dtmf(words[0], words[1], float(now))
        case "opened":
            said = opened(dialect, float(now), pairs(words))
        case "started":
            said = dialect.track_started(TrackInfo(words[0], **pairs(words[1:])), float(now))
        case "changed":
            said = dialect.track_changed(TrackInfo(words[0], **pairs(words[1:])), float(now))
        case "stopped":
            said = dialect.track_stopped(argument, float(now))
        case "closed":
            said = dialect.closed(argument, float(now))
        case "failed":
            said = dialect.closed("in words", float(now), argument)
        case "cleared":
            said = dialect.playout_cleared(float(argument), float(now))
        case "result":
            said = dialect.tool_result(words[0], " ".join(words[1:]), float(now))
        case "reached":
            said = dialect.mark_reached(argument, float(now))
        case "<":
            assert now in ("binary", "text"), line
            received = with_base64(argument) if now == "text" else to_bytes(argument)
            return [command_line(each) for each in dialect.receive(received)]
        case "discarded":
            assert dialect.discarded == int(rest), line
            return []
        case _:
            raise AssertionError(f"no such step: {line}")
    return [message_line(each) for each in said]


def lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield number, text


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_transcript(path: Path) -> None:
    steps = list(lines(path))
    verb, _, words = steps[0][1].partition(" ")
    assert verb == "options"
    dialect = make(path.parent.name, words)
    outcome: list[str] = []
    last = f"{path.name}:{steps[0][0]}"
    for number, line in steps[1:]:
        if line[0] in ">=":
            assert outcome, f"{path.name}:{number}: nothing more came of {last}, but expected was {line}"
            assert outcome.pop(0) == normal(line), f"{path.name}:{number}"
            continue
        assert not outcome, f"{last} also led to {outcome}"
        last = f"{path.name}:{number}: {line}"
        outcome = step(dialect, line)
    assert not outcome, f"{last} also led to {outcome}"


def test_every_dialect_has_a_transcript() -> None:
    assert {path.parent.name for path in TRANSCRIPTS} == set(dialects.known())


def said_in(path: Path) -> Iterator[object]:
    """Return the JSON messages that the dialect sends in a transcript."""
    steps = [line for _, line in lines(path) if line[0] not in ">="]
    dialect = make(path.parent.name, steps[0].partition(" ")[2])
    for line in steps[1:]:
        for each in step(dialect, line):
            if message := re.fullmatch(r"(?:>|= send) text ({.*)", each, re.S):
                yield json.loads(message[1])


FREE = {"channel_variables", "customParameters", "custom_parameters", "inputVariables", "stream_data"}
"""Keys that hold what users choose."""
CONSTANT = {"type", "event", "status", "encoding", "sample_rate", "sampleRate", "channels", "service", "protocol"}
"""Keys whose values are the vendor's."""
EXAMPLES = {
    "audiohook": WIRE / "audiohook" / "examples.jsonl",
    "chan_websocket": WIRE / "chan_websocket" / "examples.jsonl",
    "exotel": WIRE / "exotel" / "examples.jsonl",
    "plivo": WIRE / "plivo" / "examples.jsonl",
    "telnyx": WIRE / "telnyx" / "examples.jsonl",
    "jambonz": WIRE / "jambonz" / "examples.jsonl",
    "twilio": WIRE / "twilio" / "examples.jsonl",
    "vonage": WIRE / "vonage" / "examples.jsonl",
    "voxology": SEEDS / "voxology-messages.json",
    "yeastar": WIRE / "yeastar" / "examples.jsonl",
}
"""The messages that the vendors show."""


@pytest.mark.parametrize(("name", "path"), EXAMPLES.items())
def test_messages_are_like_the_vendors(name: str, path: Path) -> None:
    ours = [message for transcript in (WIRE / name).glob("*.txt") for message in said_in(transcript)]
    for example in examples(path):
        found = [differences(example, message, same=CONSTANT, free=FREE) for message in ours]
        assert [] in found, min(found, key=len)


def test_the_dialects_of_vendors_have_examples() -> None:
    models = {name for name, kind in dialects.known().items() if issubclass(kind, ModelDialect)}  # types: tests/agents
    assert set(EXAMPLES) == set(dialects.known()) - models - {"voipbin"}  # which has no messages but audio
