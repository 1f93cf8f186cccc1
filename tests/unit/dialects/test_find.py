"""Dialects are discovered, or registered."""

from collections.abc import Sequence
from typing import ClassVar

import pytest

from bridge import dialects
from bridge.dialects.base import Dialect, Layout, Message
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


class Morse(Dialect):
    """The least that a dialect is."""

    name: ClassVar[str] = "morse"
    layouts: ClassVar[tuple[Layout, ...]] = (Layout("keyed", "caller", {"keyed": "in"}),)

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:  # noqa: ARG002 - the interface has them
        """Send it as it is."""
        return [pcm]


def test_a_registered_dialect_is_known_until_it_is_taken_back() -> None:
    before = dict(dialects.known())
    unregister = dialects.register(Morse)
    assert dialects.find("morse") is Morse
    assert dialects.layouts()["keyed"] is Morse.layouts[0]
    with pytest.raises(ValueError, match="'morse' exists"):
        dialects.register(Morse)
    unregister()
    unregister()
    assert dict(dialects.known()) == before
    assert "keyed" not in dialects.layouts()


def test_names_that_are_taken_are_refused() -> None:
    class Again(Morse):
        name: ClassVar[str] = "twilio"

    class Both(Morse):
        layouts: ClassVar[tuple[Layout, ...]] = (Layout("both", "caller", {"keyed": "in"}),)

    for dialect, word in ((Again, "twilio"), (Both, "both")):
        with pytest.raises(ValueError, match=word):
            dialects.register(dialect)
    assert "morse" not in dialects.known()


def test_what_a_dialect_does_not_define_sends_and_takes_nothing() -> None:
    morse = Morse.create({})
    assert not morse.two_way
    assert morse.receive("x") == ()
    assert morse.discarded == 1
    assert morse.audio("keyed", b"ab", 0.0) == [b"ab"]
    with pytest.raises(ValueError, match=r"^options\.wpm: is not an option; the dialect morse has"):
        Morse.create({"wpm": 20})


@pytest.mark.parametrize("name", dialects.known())
@pytest.mark.parametrize("value", ["x", 5, [1], {"a": 1}, True])
def test_an_option_of_the_wrong_type_is_refused_clearly(name: str, value: object) -> None:
    dialect = dialects.known()[name]
    for option in dialect.options():
        try:
            dialect.create({option: value})
        except ValueError as error:
            message = str(error)
            assert message.startswith("options"), message
            assert not any(each in message for each in ("object", "attribute", "unhashable", "NoneType")), message


def test_what_actions_speak_by_default_is_one_dialect_each() -> None:
    starts = [start for dialect in dialects.known().values() for start in dialect.default_of]
    assert sorted(starts) == ["external_media_start", "media_stream", "stream"]
    assert {dialects.default_of(start) for start in starts} <= set(dialects.known())
