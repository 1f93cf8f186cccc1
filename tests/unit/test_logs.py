"""Log lines: one a record, whatever the record holds."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from bridge import logs
from bridge.config import LogConfig


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
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
    assert "INFO bridge.calls call=c1 from Eve\\nINFO call=c2 forged\\r" in output.getvalue()


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
    assert entry["message"] == "stream=s1 call=c1 closed: a\nb"
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


@pytest.mark.usefixtures("root")
def test_every_id_of_the_bridge_is_a_field() -> None:
    output, log = written("json")
    ids = (
        *("call", "channel", "party", "stream", "leg", "uuid", "peer", "request", "conference", "webhook"),
        *("subscription", "route", "recording", "flow", "worker"),
    )
    log.warning("100%% of " + " and ".join(f"{name}=%s" for name in ids), *(f"id of {name}" for name in ids))
    entry = json.loads(output.getvalue())
    assert {name: entry[name] for name in ids} == {name: f"id of {name}" for name in ids}
    log.warning("time=%s level=%s message=%s %5.1f worker=%d", "x", "y", "z", 1.5, 7)
    entry = json.loads(output.getvalue().splitlines()[1])
    assert (entry["level"], entry["message"], entry["worker"]) == (
        "warning",
        "time=x level=y message=z   1.5 worker=7",
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
        assert UNPRINTABLE in entry["message"]
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
        "worker=3 %s worker=9",
        "worker=3 100 % of it",
    ]
