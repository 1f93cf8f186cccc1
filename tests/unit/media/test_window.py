"""The window of recent audio."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.window import KEPT_MESSAGES, RecentWindow


def test_what_fits_comes_back_in_order_and_once() -> None:
    window = RecentWindow(100)
    kept: list[tuple[bytes | str, float]] = [("start", 0.0), (b"a", 20.0), ("mark", 0.0), (b"b", 80.0), ("stop", 0.0)]
    for message, audio_ms in kept:
        window.keep(message, audio_ms)
    assert (window.held_ms, len(window)) == (100, 5)
    assert window.take_all() == kept
    assert window.take_all() == []
    assert (window.held_ms, len(window), window.dropped_ms, window.dropped_messages) == (0, 0, {}, 0)


def test_beyond_the_bound_the_oldest_audio_goes_and_the_rest_keeps_its_place() -> None:
    window = RecentWindow(60)
    window.keep("start")
    for n in range(5):
        window.keep(b"%d" % n, 20)
        window.keep(f"after {n}")
    assert window.take_all() == [
        *(("start", 0.0), ("after 0", 0.0), ("after 1", 0.0), (b"2", 20), ("after 2", 0.0)),
        *((b"3", 20), ("after 3", 0.0), (b"4", 20), ("after 4", 0.0)),
    ]
    assert (window.dropped_ms, window.dropped_messages) == ({"": 40}, 2)


def test_drops_are_counted_over_the_windows_whole_life() -> None:
    window = RecentWindow(20)
    for _ in range(2):
        for n in range(3):
            window.keep(b"%d" % n, 20)
        assert window.take_all() == [(b"2", 20)]
    assert window.dropped_ms == {"": 80}


def test_one_message_longer_than_the_window_is_dropped_whole() -> None:
    window = RecentWindow(100)
    window.keep(b"short", 20)
    window.keep(b"long", 160)
    assert window.take_all() == []
    assert window.dropped_ms == {"": 180}
    window.keep(b"next", 100)
    assert window.take_all() == [(b"next", 100)]


def test_a_window_of_zero_keeps_words_but_no_audio() -> None:
    window = RecentWindow(0)
    window.keep(b"a", 20)
    window.keep("stop")
    assert window.take_all() == [("stop", 0.0)]
    assert window.dropped_ms == {"": 20}


def test_messages_without_audio_are_bounded_too() -> None:
    window = RecentWindow(1000)
    window.keep(b"audio", 20)
    for n in range(KEPT_MESSAGES + 3):
        window.keep(str(n))
    taken = window.take_all()
    assert taken[:2] == [(b"audio", 20), ("3", 0.0)]
    assert taken[-1] == (str(KEPT_MESSAGES + 2), 0.0)
    assert len(taken) == KEPT_MESSAGES + 1
    assert (window.dropped_ms, window.dropped_messages) == ({}, 3)


def test_equal_messages_are_told_apart() -> None:
    window = RecentWindow(100)
    for message in (b"x", "x", b"x"):
        window.keep(message, 20 if isinstance(message, bytes) else 0)
    assert window.take_all() == [(b"x", 20), ("x", 0.0), (b"x", 20)]


def test_a_negative_window_is_refused() -> None:
    with pytest.raises(ValueError, match="max_ms must not be negative"):
        RecentWindow(-1)


@given(
    st.floats(0, 500),
    st.lists(st.one_of(st.just(0.0), st.floats(0.1, 200), st.sampled_from([20.0, 22.5, 160.0])), max_size=60),
)
def test_nothing_is_lost_uncounted(max_ms: float, lengths: list[float]) -> None:
    window = RecentWindow(max_ms)
    for n, audio_ms in enumerate(lengths):
        window.keep(str(n), audio_ms)
        assert window.held_ms <= max_ms
    taken = window.take_all()
    numbers = [int(message) for message, _ in taken]
    assert numbers == sorted(numbers)
    assert [n for n, audio_ms in enumerate(lengths) if not audio_ms] == [n for n in numbers if not lengths[n]]
    assert sum(audio_ms for _, audio_ms in taken) + sum(window.dropped_ms.values()) == pytest.approx(sum(lengths))
    # Only the oldest go: the audio that is left is the end of all the audio.
    audio = [n for n, audio_ms in enumerate(lengths) if audio_ms]
    left = [n for n in numbers if lengths[n]]
    assert left == audio[len(audio) - len(left) :]


def test_what_is_dropped_is_counted_for_each_track() -> None:
    window = RecentWindow(40)
    for track in ("near", "far", "near", "far", "near"):
        window.keep(track.encode(), 20, track)
    assert window.dropped_ms == {"near": 40, "far": 20}
