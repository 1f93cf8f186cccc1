"""Runs the transcripts in tests/wire/: what a dialect says and does, message by message. Format: README.md there."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import dialects
from bridge.dialects.base import CallInfo, Clear, Command, Dialect, Dtmf, Mark, Play, Stop

WIRE = Path(__file__).parents[2] / "wire"
TRANSCRIPTS = sorted(path for name in dialects.known() for path in (WIRE / name).glob("*.txt"))


def to_bytes(words: str) -> bytes:
    """``8000 ff*160`` and the like."""
    parts = []
    for word in words.split():
        digits, _, times = word.partition("*")
        parts.append(bytes.fromhex(digits) * int(times or 1))
    return b"".join(parts)


def to_words(data: bytes) -> str:
    """The shortest of the forms that ``to_bytes`` reads, for comparing and for failures that can be read."""
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
            return f"= mark {name}"
        case Dtmf(digits):
            return f"= dtmf {digits}"
        case Stop():
            return "= stop"


def message_line(message: bytes | str) -> str:
    return f"> text {message}" if isinstance(message, str) else f"> binary {to_words(message)}"


def normal(line: str) -> str:
    """The line with its bytes written in the one form that results have."""
    mark, kind, rest = (*line.split(None, 2), "", "")[:3]
    if (mark, kind) == (">", "binary"):
        return f"> binary {to_words(to_bytes(rest))}"
    if (mark, kind) == ("=", "play"):
        rate, _, words = rest.partition(" ")
        return f"= play {rate} {to_words(to_bytes(words))}"
    return line


def make(name: str, words: str) -> Dialect:
    options: dict[str, object] = dict(word.split("=", 1) for word in words.split())
    if "seed" in options:
        options["rng"] = random.Random(int(str(options.pop("seed"))))
    if "rate" in options:
        options["rate"] = int(str(options["rate"]))
    return dialects.find(name)(**options)


def step(dialect: Dialect, line: str) -> list[str]:
    """Does what a line says, and gives the lines that it led to."""
    verb, _, rest = line.partition(" ")
    now, _, argument = rest.partition(" ")
    match verb:
        case "call":
            return [message_line(each) for each in dialect.audio("call", to_bytes(argument), float(now))]
        case "key":
            track, digit = argument.split()
            return [message_line(each) for each in dialect.dtmf(track, digit, float(now))]
        case "opened":
            return [message_line(each) for each in dialect.opened(CallInfo("call"), (), float(now), 0.0)]
        case "closed":
            return [message_line(each) for each in dialect.closed(argument, float(now))]
        case "reached":
            return [message_line(each) for each in dialect.mark_reached(argument, float(now))]
        case "<":
            assert now in ("binary", "text"), line
            return [command_line(each) for each in dialect.receive(argument if now == "text" else to_bytes(argument))]
        case "discarded":
            assert dialect.discarded == int(rest), line
            return []
    raise AssertionError(f"no such step: {line}")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield number, text


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_transcript(path):
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


def test_every_dialect_has_a_transcript():
    assert {path.parent.name for path in TRANSCRIPTS} == set(dialects.known())
