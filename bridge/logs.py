"""The format of log records: one line each, as text or as JSON, to standard error.

Fields are the arguments of a message whose template has ``name=%s`` for them, and those of `Fields`; they are never
parsed out of the finished text. Text from a caller, a peer or a server can neither begin a line nor look like a field:
in the text format values of fields are quoted where necessary, and ``call=`` within other text is escaped.

Lines that one cause repeats are written once a minute, with their number: the log call passes the `cause`.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import itertools
import json
import logging
import re
import sys
import time
from collections.abc import Iterable
from numbers import Number
from typing import Any, TextIO

from bridge.config import LogConfig
from bridge.texts import cut, printable

MAX_MESSAGE_CHARACTERS = 8000
MAX_TRACEBACK_CHARACTERS = 16_000
TRACEBACK_PREFIX = "    | "
"""The prefix of each line of a traceback, which no record has."""

REPEAT_S = 60.0
"""Interval between two lines of one cause."""
MAX_CAUSES = 1000
"""Causes that are counted at the same time; further ones are counted together, for each template."""

IDS = frozenset(
    {
        *("call", "channel", "mixing_bridge", "conference", "stream", "leg", "recording", "flow", "event", "group"),
        *("subscription", "route", "webhook", "token", "tool", "worker", "peer", "request"),
    }
)
"""Fields that identify something, each by one kind of id: ``channel`` an ARI channel, ``leg`` a media leg (its UUID),
``peer`` the address of a connection. A test checks that log calls use no others."""

_FORGED = re.compile(rf"\b({'|'.join(sorted(IDS))})=")
_KEYS = frozenset({"time", "level", "logger", "message", "traceback"})
"""Keys of an entry that no field may take."""
_PLAIN = re.compile(r'[^\s"=]+')
_PLACEHOLDER = re.compile(r"(?:\b([a-z_]+)=)?%(%|[-#0 +]{0,5}\d{0,9}(?:\.\d{0,9})?[hlL]?[diouxXeEfFgGcrsa])")

_Key = tuple[str, str | None]
"""Identity of a cause: template and key; None: all causes beyond `MAX_CAUSES`."""


def cause(key: object = "") -> dict[str, str]:
    """Return the ``extra`` of a log call that one cause may repeat: `Repeats` counts its records.

    Args:
        key: distinguishes the cause from others with the same template.
    """
    return {"cause": str(key)}


class Fields(str):
    """Fields that several messages share, as one argument: ``stream=s1 call=c1``."""

    fields: dict[str, str]

    def __new__(cls, **fields: object) -> Fields:
        """Format the fields in their order."""
        texts = {name: cut(str(value)) for name, value in fields.items()}
        made = super().__new__(cls, " ".join(f"{name}={_quoted(value)}" for name, value in texts.items()))
        made.fields = texts
        return made

    def and_also(self, **fields: object) -> Fields:
        """Return these fields followed by further ones."""
        return Fields(**self.fields, **fields)


class TextFormatter(logging.Formatter):
    """``2026-11-21T10:00:00.123Z INFO bridge.streams stream opened call=.. stream=..``.

    Lines of a traceback follow, each with `TRACEBACK_PREFIX`. Characters that cannot be printed are escaped.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        worker = f"worker={record.worker} " if hasattr(record, "worker") else ""
        line = f"{_utc(record)} {record.levelname} {record.name} {worker}{_printable(_message(record, guarded=True))}"
        traceback = self._traceback(record)
        return "\n".join([line, *(TRACEBACK_PREFIX + _printable(each) for each in traceback.split("\n") if traceback)])

    def _traceback(self, record: logging.LogRecord) -> str:
        text = self.formatException(record.exc_info) if record.exc_info else getattr(record, "stack", "")
        return _middle_cut(text)


class JsonFormatter(TextFormatter):
    """One JSON object a line: time, level, logger, message, the fields, and the traceback if there is one.

    The message omits fields that are keys of the object.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON."""
        entry = {"time": _utc(record), "level": record.levelname.lower(), "logger": record.name}
        entry["message"] = _event(record)
        if hasattr(record, "worker"):
            entry["worker"] = str(record.worker)
        if traceback := self._traceback(record):
            entry["traceback"] = traceback
        for name, value in _fields(record).items():
            entry.setdefault(name, value)
        return _printable(json.dumps(entry, ensure_ascii=False), in_json=True)


class Repeats(logging.Filter):
    """Passes the first record of each `cause`, and after `REPEAT_S` one with the number of the others, if any.

    Args:
        output: where that one is written.
    """

    def __init__(self, output: logging.Handler) -> None:
        super().__init__()
        self._output = output
        self._repeated: dict[_Key, tuple[int, logging.LogRecord]] = {}
        """The number of records of each cause that were not written since the last that was, and the newest."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record now."""
        key: _Key = (str(record.msg), getattr(record, "cause", ""))
        repeated = self._repeated.get(key)
        if not hasattr(record, "cause"):
            return True
        if repeated is None and len(self._repeated) >= MAX_CAUSES:
            key = (str(record.msg), None)
            repeated = self._repeated.get(key)
        if repeated is not None:
            self._repeated[key] = (repeated[0] + 1, record)
            return False
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a thread's, of which there are few
            return True
        self._repeated[key] = (0, record)
        loop.call_later(REPEAT_S, self._sum_up, loop, key)
        return True

    def _sum_up(self, loop: asyncio.AbstractEventLoop, key: _Key) -> None:
        """Write the newest unwritten record, with the number of all."""
        count, record = self._repeated.pop(key)
        if not count:
            return
        self._repeated[key] = (0, record)
        loop.call_later(REPEAT_S, self._sum_up, loop, key)
        line = copy.copy(record)
        del line.__dict__["cause"]
        line.msg = f"{record.msg} repeated=%d seconds=%g"
        line.args = (*(record.args if isinstance(record.args, tuple) else ()), count, REPEAT_S)
        self._output.handle(line)


def set_up(config: LogConfig, stream: TextIO | None = None, worker: int = 0) -> None:
    """Send every record of at least ``config.level`` to ``stream`` (standard error), with the ``worker``."""
    output = logging.StreamHandler(stream or sys.stderr)
    output.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    if worker:
        output.addFilter(lambda record: _of_worker(record, worker))
    output.addFilter(Repeats(output))
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(config.level.upper())
    # They log every connection, and picows and aiohttp would repeat URLs, which may contain a token.
    for name in ("aiohttp", "asyncio", "picows", "websockets"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _of_worker(record: logging.LogRecord, worker: int) -> bool:
    record.worker = worker
    return True


def _message(record: logging.LogRecord, *, guarded: bool = False) -> str:
    """Return the message with its arguments, each cut.

    Args:
        record: the record.
        guarded: whether text in an argument must not look like a field.
    """
    text = str(record.msg)
    if isinstance(record.args, tuple) and record.args:
        values: Iterable[Any] = map(_bounded, record.args)
        if guarded:
            names = itertools.chain(_names(text), itertools.repeat(""))
            values = (_guarded(name, value) for name, value in zip(names, values, strict=False))
        text %= tuple(values)
    elif record.args:
        text %= record.args
    return cut(text, MAX_MESSAGE_CHARACTERS)


def _event(record: logging.LogRecord) -> str:
    """Return the message without its fields; all of it if it has nothing else."""
    if not isinstance(record.args, tuple) or not record.args:
        return _message(record)
    values: list[Any] = []
    waiting = iter(record.args)

    def kept(found: re.Match[str]) -> str:
        if found[2] == "%":
            return found[0]
        value = next(waiting)
        if isinstance(value, Fields) or (found[1] and found[1] not in _KEYS):
            return ""
        values.append(_bounded(value))
        return found[0]

    template = re.sub(" +(?=[ :,])", "", _PLACEHOLDER.sub(kept, str(record.msg))).strip(" :,")
    return cut(template % tuple(values), MAX_MESSAGE_CHARACTERS) if template else _message(record)


def _fields(record: logging.LogRecord) -> dict[str, str]:
    if not isinstance(record.args, tuple) or not record.args:
        return {}
    found: dict[str, str] = {}
    for name, value in zip(_names(str(record.msg)), record.args, strict=False):
        if name:
            found.setdefault(name, cut(str(value)))
        elif isinstance(value, Fields):
            found = value.fields | found
    return found


@functools.lru_cache(maxsize=1024)
def _names(template: str) -> tuple[str, ...]:
    """Return the field of each argument of a template; "" for one that is not a field."""
    return tuple(found[1] or "" for found in _PLACEHOLDER.finditer(template) if found[2] != "%")


def _bounded(value: Any) -> Any:
    if isinstance(value, Fields):
        return value
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, BaseException):
        return cut(str(value))
    return value


def _guarded(name: str, value: Any) -> Any:
    if isinstance(value, Number | Fields):
        return value
    text = str(value)
    return _quoted(text) if name else _FORGED.sub(r"\1\\x3d", text)


def _quoted(value: str) -> str:
    """Return the value of a field, in quotes if it would otherwise end early or look like further fields."""
    return value if not value or _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _printable(text: str, *, in_json: bool = False) -> str:
    """Return a string with every unprintable character escaped, as JSON does or as Python."""
    if not in_json or text.isprintable():
        return printable(text)
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _middle_cut(text: str) -> str:
    """Return a traceback without its middle if it is long: both its beginning and its end are needed."""
    if len(text) <= MAX_TRACEBACK_CHARACTERS:
        return text
    half = MAX_TRACEBACK_CHARACTERS // 2
    return f"{text[:half]}\n\u2026\n{text[-half:]}"


def _utc(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"
