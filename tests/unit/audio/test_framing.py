"""Any size in, exact frames out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.audio.framing import Framer


@given(st.integers(1, 50), st.lists(st.binary(max_size=120), max_size=20))
def test_nothing_is_lost_or_reordered(size: int, blocks: list[bytes]) -> None:
    framer = Framer(size)
    frames = []
    for number, block in enumerate(blocks):
        frames += framer.push(block)
        # Not later than possible either: a frame that is complete never waits.
        assert len(frames) == len(b"".join(blocks[: number + 1])) // size
    assert all(len(frame) == size for frame in frames)
    rest = framer.rest()
    assert len(rest) < size
    assert b"".join(frames) + rest == b"".join(blocks)
    assert framer.rest() == b""


def test_half_a_sample_is_carried() -> None:
    framer = Framer(4)
    assert framer.push(b"abc") == []
    assert framer.push(b"defgh") == [b"abcd", b"efgh"]


def test_a_frame_has_a_size() -> None:
    with pytest.raises(ValueError, match="must be positive, not 0"):
        Framer(0)
