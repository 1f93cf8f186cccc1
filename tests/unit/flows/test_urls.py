"""URLs of flows, also with their variables filled in."""

from __future__ import annotations

import random
import re
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

from bridge.flows import substitution
from bridge.flows.actions.data import _url
from bridge.flows.options import HTTP_URL
from bridge.flows.substitution import MAX_URL_CHARACTERS
from bridge.flows.variables import Variables


def test_the_linear_expression_takes_the_same_urls() -> None:
    """As the one that it replaced, which took seconds for 32 KiB."""
    old = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
    choice = random.Random(5)
    for _ in range(20_000):
        text = choice.choice(("http://", "https://", "HTTP://", "ftp://", "http:/")) + "".join(
            choice.choices("ab.:@/?#= \n\u00e9", k=choice.randrange(8))
        )
        assert bool(old.fullmatch(text)) == bool(HTTP_URL.fullmatch(text)), text


def test_a_url_that_variables_make_long_is_refused_before_it_is_looked_at() -> None:
    variables = Variables({"base": "http://" + "a" * 30_000, "other": "x" * MAX_URL_CHARACTERS})
    run: Any = SimpleNamespace(variables=variables)
    for template in ("${base}", "http://app.example/${other}"):
        with pytest.raises(ValueError, match="exceeds 4096 characters"):
            _url(run, template)
    assert _url(run, "http://app.example/${none}") == "http://app.example/"


def test_a_url_that_variables_make_long_is_refused_before_more_are_put_in() -> None:
    asked: list[str] = []

    def value_of(name: str) -> str:
        asked.append(name)
        return "\\" * 1000

    with pytest.raises(ValueError, match="exceeds 4096 characters"):
        substitution.fill_url("http://x/" + "${a}" * 500, value_of)
    assert len(asked) <= 5


def test_a_segment_is_looked_at_once_however_many_variables_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(substitution, "unquote", lambda text: seen.append(text) or unquote(text))
    assert substitution.fill_url("http://x/" + "${a}" * 500 + "/${a}${b}/c", {"a": "1", "b": ""}.__getitem__)
    assert seen == ["1" * 500, "1"]
    with pytest.raises(ValueError, match="changes the path"):
        substitution.fill_url("http://x/${a}${a}/c", lambda _: ".")
