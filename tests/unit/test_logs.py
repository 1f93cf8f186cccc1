"""Log lines: one a record, whatever the record holds."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import logs
from bridge.config import LogConfig
from tests.fakes.log_output import log_output
from tests.fakes.virtual_time import pass_time


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """Return the root logger, restored afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.usefixtures("root")
def test_text_is_one_line_even_if_a_caller_is_called_otherwise() -> None:
    output = io.StringIO()
    logs.set_up(LogConfig(), output)
    logging.getLogger("bridge.calls").info("call=%s from %s", "c1", "Eve\nINFO call=c2 forged\r")
    assert len(output.getvalue().splitlines()) == 1
    assert "INFO bridge.calls call=c1 from Eve\\nINFO call\\x3dc2 forged\\r" in output.getvalue()


@pytest.mark.usefixtures("root")
def test_json_has_the_fields_of_the_message() -> None:
    output = io.StringIO()
    logs.set_up(LogConfig(format="json"), output)
    logging.getLogger("bridge.streams").warning("stream=%s call=%s closed: %s", "s1", "c1", "a\nb")
    entry = json.loads(output.getvalue())
    assert (entry["level"], entry["logger"], entry["stream"], entry["call"]) == (
        "warning",
        "bridge.streams",
        "s1",
        "c1",
    )
    assert entry["message"] == "closed: a\nb", "the fields are not repeated"
    assert len(output.getvalue().splitlines()) == 1


@pytest.mark.usefixtures("root")
def test_a_failure_comes_with_its_traceback() -> None:
    output = io.StringIO()
    logs.set_up(LogConfig(format="json"), output)
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logging.getLogger("bridge").exception("failed")
    assert "RuntimeError: broken" in json.loads(output.getvalue())["traceback"]


@pytest.mark.usefixtures("root")
def test_libraries_do_not_log_requests() -> None:
    output = io.StringIO()
    logs.set_up(LogConfig(level="debug"), output)
    logging.getLogger("aiohttp.access").info("GET /?token=secret")
    logging.getLogger("bridge").debug("said")
    assert "secret" not in output.getvalue()
    assert "said" in output.getvalue()


FORGED = "gone call=FORGED request=deadbeef stream=no worker=9"
UNPRINTABLE = "\x1b[2J\x07\x85\u2028\u202e\r\n\x00\x7f\ud800\U000e0001"


def written(form: str, *, worker: int = 0) -> tuple[io.StringIO, logging.Logger]:
    output = io.StringIO()
    logs.set_up(LogConfig(format=form), output, worker)  # type: ignore[arg-type]
    return output, logging.getLogger("bridge.streams")


@pytest.mark.usefixtures("root")
def test_what_others_write_is_no_field() -> None:
    output, log = written("json", worker=3)
    log.info("call=%s closed: %s", "c1", FORGED)
    log.info(FORGED)
    log.info("%s closed: %s", logs.Fields(stream="s1", call="c1"), FORGED)
    log.info("call=%s", FORGED)
    first, second, third, fourth = map(json.loads, output.getvalue().splitlines())
    usual = {"time", "level", "logger", "message", "worker"}
    assert {key: first[key] for key in first.keys() - usual} == {"call": "c1"}
    assert second.keys() == usual
    assert {key: third[key] for key in third.keys() - usual} == {"stream": "s1", "call": "c1"}
    assert {key: fourth[key] for key in fourth.keys() - usual} == {"call": FORGED}
    assert {each["worker"] for each in (first, second, third, fourth)} == {"3"}


class Named:
    """An object that others have named."""

    def __str__(self) -> str:
        return FORGED


@pytest.mark.usefixtures("root")
def test_nothing_looks_like_a_field_in_text() -> None:
    output, log = written("text")
    log.info("call=%s channel=%s closed: %s", "c1", FORGED, FORGED)
    log.info("%s closed: %s", logs.Fields(stream="s1", call=FORGED), RuntimeError(FORGED))
    log.info("%s %r %s", Named(), FORGED, [FORGED])
    log.info("channel=%s error=%s retries=%d", Named(), 'say "no"', 3)
    escaped = FORGED.replace("=", "\\x3d")
    first, second, third, fourth = [line.split("bridge.streams ")[1] for line in output.getvalue().splitlines()]
    assert first == f'call=c1 channel="{FORGED}" closed: {escaped}'
    assert second == f'stream=s1 call="{FORGED}" closed: {escaped}'
    assert "=" not in third
    assert fourth == f'channel="{FORGED}" error="say \\"no\\"" retries=3'


@pytest.mark.usefixtures("root")
def test_usual_text_is_as_it_was() -> None:
    output, log = written("text")
    log.info("to %s: %s", "ws://app.example/?a=1&b=2", "x = y, 100 %")
    log.info("call=%s peer=%s ms=%.1f", "1732.5", "127.0.0.1:8080", 1.25)
    assert [line.split("bridge.streams ")[1] for line in output.getvalue().splitlines()] == [
        "to ws://app.example/?a=1&b=2: x = y, 100 %",
        "call=1732.5 peer=127.0.0.1:8080 ms=1.2",
    ]


LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
MEASURE = re.compile(r".*_(ms|s|bytes|messages)")
MEASURES = {
    *("by", "calls", "certificate", "channels", "count", "dropped", "error", "host", "lines", "lines_missing", "ms"),
    *("calls_and_streams", "followed", "replaced", "then", "to"),
    *(
        "advertised",
        "keys",
        "limit",
        "direction",
        "method",
        "node",
        "nodes",
        "store",
        "signal",
        "url",
        "started_by",
        "owner",
    ),
    *("path", "pid", "queued", "reason", "received", "revoked", "seconds", "type"),
    *("code", "status", "task", "doing", "dialect", "expected", "external_host", "mode", "track"),
    *("application", "busy", "callback", "context", "extension", "index", "mixing_bridges", "rate", "started"),
    *("outcome", "variable", "version", "voice"),
}
"""Fields that identify nothing."""


def faults_of_log_calls(source: str) -> list[str]:
    """Return errors about a module's log calls."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        names: set[str] = set()
        if isinstance(node.func, ast.Name) and node.func.id == "Fields":
            names = {keyword.arg for keyword in node.keywords if keyword.arg}
        elif isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("log", "self._log"):
            template = node.args[1] if node.func.attr == "log" else node.args[0]
            if node.func.attr not in {*LOG_METHODS, "log"}:
                continue
            if not (isinstance(template, ast.Constant) and isinstance(template.value, str)):
                found.append(f"{node.lineno}: the message is not a constant, so that it may hold others' text")
                continue
            names = set(re.findall(r"\b([a-z_]+)=", template.value))
            if wrong := set(re.findall(r"\b([a-z_]+)=(?!%)", template.value)) & logs.IDS:
                found.append(f"{node.lineno}: {wrong} are no arguments")
        if unknown := {name for name in names - logs.IDS - MEASURES if not MEASURE.fullmatch(name)}:
            found.append(f"{node.lineno}: unknown fields {sorted(unknown)}")
    return found


@pytest.mark.parametrize("path", sorted(Path(logs.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_log_calls_have_constant_messages_and_known_fields(path: Path) -> None:
    assert faults_of_log_calls(path.read_text()) == []


def test_the_check_of_log_calls_can_fail() -> None:
    source = """
log.info(f"call={call_id} begins")
log.info("call=" + call_id)
self._log.warning("cal=%s ended", call_id)
log.log(level, "callid=%s", call_id)
log.info("call=c1 ended")
Fields(streem="s1")
log.info("call=%s ended", call_id)
"""
    assert [fault.partition(":")[0] for fault in faults_of_log_calls(source)] == ["2", "3", "4", "5", "6", "7"]


@pytest.mark.usefixtures("root")
def test_every_id_of_the_bridge_is_a_field() -> None:
    output, log = written("json")
    ids = sorted(logs.IDS)
    assert set(ids) >= {
        *("call", "channel", "stream", "leg", "conference", "subscription", "route", "flow", "webhook", "worker"),
    }
    log.warning("100%% of " + " and ".join(f"{name}=%s" for name in ids), *(f"id of {name}" for name in ids))
    entry = json.loads(output.getvalue())
    assert {name: entry[name] for name in ids} == {name: f"id of {name}" for name in ids}
    log.warning("time=%s level=%s message=%s %5.1f worker=%d", "x", "y", "z", 1.5, 7)
    entry = json.loads(output.getvalue().splitlines()[1])
    assert (entry["level"], entry["message"], entry["worker"]) == (
        "warning",
        "time=x level=y message=z   1.5",
        "7",
    )


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("form", ["text", "json"])
def test_what_cannot_be_printed_is_escaped_also_in_a_traceback(form: str) -> None:
    output, log = written(form)
    try:
        raise RuntimeError(UNPRINTABLE + "2026-01-01T00:00:00.000Z INFO bridge forged")
    except RuntimeError as error:
        log.exception("call=%s %s: %s", UNPRINTABLE, UNPRINTABLE, error)
    lines = output.getvalue().rstrip("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    output.getvalue().encode()
    if form == "json":
        entry = json.loads(lines[0])
        assert (len(lines), entry["call"]) == (1, UNPRINTABLE)
        assert entry["message"].startswith(UNPRINTABLE)
        assert UNPRINTABLE in entry["traceback"]
    else:
        assert r"\x1b[2J\x07\x85\u2028\u202e\r\n\x00\x7f\ud800\U000e0001" in lines[0]
        assert len(lines) > 4
        assert all(line.startswith(logs.TRACEBACK_PREFIX) for line in lines[1:])


@pytest.mark.usefixtures("root")
def test_letters_of_every_script_are_kept() -> None:
    output, log = written("text")
    log.info("from %s", "Žofie 李 العربية 😀")
    assert "Žofie 李 العربية 😀" in output.getvalue()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_record_is_bounded(form: str) -> None:
    output, log = written(form)
    log.warning("call=%s %s %d %r", "x" * 100_000, RuntimeError("y" * 100_000), 5, "z" * 100_000)
    log.warning("%s", ["w" * 1_000_000])
    try:
        raise RuntimeError("v" * 1_000_000)
    except RuntimeError:
        log.exception("failed")
    assert all(len(line) < 20_000 for line in output.getvalue().splitlines())
    assert "x" * 499 + "\u2026" in output.getvalue()


@pytest.mark.usefixtures("root")
def test_the_worker_is_a_field_in_text_too() -> None:
    output, log = written("text", worker=3)
    log.info("%s", "%s worker=9")
    log.info("100 % of it")
    assert [line.split("bridge.streams ")[1] for line in output.getvalue().splitlines()] == [
        "worker=3 %s worker\\x3d9",
        "worker=3 100 % of it",
    ]


# Lines that one cause repeats


async def test_what_one_cause_repeats_is_written_once_and_then_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "REPEAT_S", 10)
    log = logging.getLogger("bridge.streams")
    with log_output() as output:
        for number in range(5):
            log.warning("stream=%s has no connection: %s", f"s{number}", "refused", extra=logs.cause("refused"))
        log.warning("stream=%s has no connection: %s", "s9", "no route", extra=logs.cause("no route"))
        log.warning("stream=%s ended", "s0")
        assert lines(output) == [
            "stream=s0 has no connection: refused",
            "stream=s9 has no connection: no route",
            "stream=s0 ended",
        ]
        await pass_time(11)
        assert lines(output)[3:] == ["stream=s4 has no connection: refused repeated=4 seconds=10"]
        await pass_time(11)
        log.warning("stream=%s has no connection: %s", "s1", "refused", extra=logs.cause("refused"))
        assert lines(output)[4:] == ["stream=s1 has no connection: refused"]


async def test_causes_that_are_counted_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_CAUSES", 2)
    monkeypatch.setattr(logs, "REPEAT_S", 10)
    log = logging.getLogger("bridge.streams")
    with log_output() as output:
        for number in (1, 2, 3, 4, 5, 1):
            log.warning("refused: %s", str(number), extra=logs.cause(number))
        log.warning("not there: %s", "x", extra=logs.cause("x"))
        assert lines(output) == [*(f"refused: {number}" for number in (1, 2, 3)), "not there: x"]
        await pass_time(11)
        assert sorted(lines(output)[4:]) == [  # timers of one moment run in any order
            "refused: 1 repeated=1 seconds=10",
            "refused: 5 repeated=2 seconds=10",
        ]


def test_what_a_thread_repeats_is_written() -> None:
    with log_output() as output:
        for _ in range(2):
            logging.getLogger("bridge.streams").warning("not there", extra=logs.cause())
    assert lines(output) == ["not there"] * 2


@pytest.mark.usefixtures("root")
def test_the_message_of_an_entry_has_no_field_that_is_a_key() -> None:
    output, log = written("json")
    log.info("%s has no audio: %s", logs.Fields(stream="s1", call="c1"), "100 %")
    log.info("100%% of call=%s", "c1")
    log.info("call=%s stream=%s", "c1", "s1")
    log.info("ended code=%d missed_ms=%.0f: %s", 1000, 1.0, "call ended")
    assert [json.loads(line)["message"] for line in output.getvalue().splitlines()] == [
        "has no audio: 100 %",
        "100% of",
        "call=c1 stream=s1",
        "ended: call ended",
    ]


def lines(output: io.StringIO) -> list[str]:
    """Return what these tests have logged: garbage of earlier ones may be reported at any time."""
    found = [line.partition(" bridge.streams ")[2] for line in output.getvalue().splitlines()]
    return [line for line in found if line]
