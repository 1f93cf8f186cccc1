"""Dialects are found by looking."""

import pytest

from bridge import dialects
from bridge.dialects.voipbin import Voipbin


def test_found_by_name() -> None:
    assert dialects.find("voipbin") is Voipbin
    assert "voipbin" in dialects.known()


def test_what_a_dialect_is_is_no_dialect() -> None:
    assert all(isinstance(name, str) for name in dialects.known())
    assert not {each.__name__ for each in dialects.known().values()} & {"Dialect", "Encapsulation"}


def test_a_name_that_is_none_says_which_there_are() -> None:
    with pytest.raises(LookupError, match=r"'morse'.*voipbin"):
        dialects.find("morse")
