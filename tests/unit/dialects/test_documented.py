"""The dialect of docs/howto/write-a-dialect.md works: it is registered, created by its options, and converts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import dialects
from bridge.dialects.base import CallInfo, Dialect, Play

PAGE = Path(__file__).parents[3] / "docs/howto/write-a-dialect.md"


@pytest.fixture
def plain() -> Iterator[type[Dialect]]:
    code, starter = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = {"__name__": "plain"}
    exec(code + starter, module)
    shown: type[Dialect] = module["Plain"]  # type: ignore[assignment]
    unregister = dialects.register(shown)
    yield shown
    unregister()


def test_the_dialect_of_the_page_converts_both_ways(plain: type[Dialect]) -> None:
    dialect = dialects.find("plain").create({"greeting": "hi"})
    assert isinstance(dialect, plain)
    (first,) = dialect.opened(CallInfo(call_id="c1"), ["mix"], 0.0, 0.0)
    assert json.loads(first) == {"event": "start", "call": "c1", "greeting": "hi"}
    assert dialect.audio("mix", b"\x01\x00" * 160, 0.0) == [b"\x01\x00" * 160]
    assert dialect.receive(b"\x02\x00") == [Play(b"\x02\x00", 8000)]
    assert dialect.receive("{}") == []
    assert dialect.discarded == 1
    with pytest.raises(ValueError, match=r"options\.volume: is not an option"):
        dialect.create({"volume": 1})
