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
    logging.getLogger("bridge.streams").warning("stream=s1 call=c1 closed: %s", "a\nb")
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
