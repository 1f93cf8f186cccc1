"""A track that keeps to the clock, whatever its audio does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.audio.clocked_track import DEAF_S, GRACE_S, HOLD_S, LATE_MS, MAX_FILL_MS, ClockedTrack, FillCounters
from bridge.audio.format import slin

MS = 16  # bytes of a millisecond at 8000 Hz


def frame(n: int, ms: int = 20) -> bytes:
    """Return the ``n``-th block of a track, unlike any other and never silent."""
    return (n % 30000 + 1).to_bytes(2, "little") * (8 * ms)


class Heard:
    """A track with 20 ms chunks, and all that came out of it."""

    def __init__(self, chunk_ms: int = 20) -> None:
        self.tally = FillCounters()
        self.track = ClockedTrack(slin(8000), chunk_ms, 0.0, tally=self.tally)
        self.pcm = b""

    def push(self, pcm: bytes, now: float) -> int:
        chunks = self.track.push(pcm, now)
        self.pcm += b"".join(chunks)
        return len(chunks)

    def finish(self, now: float) -> bytes:
        chunks, rest = self.track.finish(now)
        self.pcm += b"".join(chunks) + rest
        return rest

    def blocks(self) -> list[int]:
        """Return which block every 20 ms is; 0 is silence."""
        cut = [self.pcm[at : at + 20 * MS] for at in range(0, len(self.pcm), 20 * MS)]
        assert all(len(set(zip(each[::2], each[1::2], strict=True))) == 1 for each in cut), "blocks are torn"
        return [int.from_bytes(each[:2], "little") for each in cut]


def test_what_keeps_time_comes_out_as_it_is() -> None:
    heard = Heard()
    for n in range(50):
        assert heard.push(frame(n), 0.02 * (n + 1)) == 1
    assert heard.finish(1.0) == b""
    assert heard.blocks() == list(range(1, 51))
    assert heard.tally.filled_bytes == heard.tally.dropped_bytes == 0


def test_jitter_is_not_touched() -> None:
    heard = Heard()
    for n in range(100):  # five at a time, the first of them 80 ms late
        heard.push(frame(n), 0.1 * (n // 5 + 1))
    heard.finish(2.0)
    assert heard.blocks() == list(range(1, 101))


def test_a_gap_is_silence_and_what_follows_is_in_its_place() -> None:
    heard = Heard()
    for n in range(150):
        if not 50 <= n < 100:
            heard.push(frame(n), 0.02 * (n + 1))
    heard.finish(3.0)
    assert heard.blocks() == [*range(1, 51), *[0] * 50, *range(101, 151)]
    assert heard.tally.filled_bytes == 1000 * MS


def test_a_gap_is_filled_while_it_lasts_when_somebody_calls() -> None:
    heard = Heard()
    heard.push(frame(0), 0.02)
    for n in range(1, 50):
        heard.push(b"", 0.02 * (n + 1))
    assert len(heard.pcm) == (1000 - LATE_MS) * MS
    heard.push(frame(50), 1.02)
    heard.push(frame(51), 1.04)
    assert len(heard.pcm) == (1000 - LATE_MS) * MS, "held, to see whether more comes"
    heard.push(frame(52), 1.06)
    assert heard.push(frame(53), 1.08 + 1e-6) > 0
    heard.finish(1.08)
    assert heard.blocks() == [1, *[0] * 49, 51, 52, 53, 54]


def test_a_stall_is_made_up_for_and_nothing_is_doubled() -> None:
    heard = Heard()
    for n in range(10):
        heard.push(frame(n), 0.02 * (n + 1))
    for n in range(10, 110):  # two seconds in one burst
        heard.push(frame(n), 2.2)
    heard.finish(2.2)
    assert heard.blocks() == list(range(1, 111))
    assert heard.tally.filled_bytes == heard.tally.dropped_bytes == 0


def test_a_stall_of_the_whole_process_is_no_gap_of_the_track_that_is_read_second() -> None:
    heard = Heard()
    heard.push(frame(0), 0.02)
    for _ in range(50):  # the other track's audio is read first
        assert heard.push(b"", 1.02) == 0
    for n in range(1, 51):
        heard.push(frame(n), 1.02)
    heard.finish(1.02)
    assert heard.blocks() == list(range(1, 52))


def test_audio_of_another_track_does_not_end_the_patience_with_this_one() -> None:
    """After a stall the other track's audio may be read, slowly, long before this one's."""
    heard = Heard()
    heard.push(frame(0), 0.02)
    assert not [chunk for n in range(40) for chunk in heard.track.wait(1.02 + 0.01 * n)]
    for n in range(1, 71):
        heard.push(frame(n), 1.42)
    heard.finish(1.42)
    assert heard.blocks() == list(range(1, 72))
    assert heard.tally == FillCounters()


def test_a_track_without_a_leg_continues_in_silence_with_the_other_one() -> None:
    heard = Heard()
    heard.push(frame(0), 0.02)
    for n in range(1, 100):
        chunks = heard.track.wait(0.02 * (n + 1))
        assert not (chunks and 0.02 * n < DEAF_S)
        heard.pcm += b"".join(chunks)
    assert len(heard.pcm) == (2000 - LATE_MS) * MS


@pytest.mark.parametrize("pause_s", [0.03, 0.09, 0.3])
def test_a_backlog_that_is_read_with_pauses_is_not_taken_for_a_gap(pause_s: float) -> None:
    """A process that gets the processor in slices reads what waits for it frame by frame, with pauses in between."""
    heard = Heard()
    heard.push(frame(0), 0.02)
    now, n = 0.62, 1
    while 0.02 * (n + 1) <= now:
        heard.push(frame(n), now)
        n += 1
        if n in (3, 6):
            now += pause_s
    for later in range(n, n + 20):
        heard.push(frame(later), 0.02 * (later + 1))
    heard.finish(0.02 * (n + 20))
    assert heard.blocks() == list(range(1, n + 21))
    assert heard.tally == FillCounters()


def test_audio_after_a_gap_that_comes_in_lumps_is_held_no_longer_than_a_second() -> None:
    heard = Heard()
    for n in range(50):
        heard.push(b"", 0.02 * (n + 1))
    assert set(heard.blocks()) == {0}
    for n in range(50, 50 + round(HOLD_S / 0.02) + 6):  # five at a time
        heard.push(frame(n), 0.1 * (n // 5 + 1))
    assert set(heard.blocks()[50:]) > {51}


def test_of_audio_that_comes_after_its_silence_the_newest_is_kept() -> None:
    heard = Heard()
    heard.push(frame(0), 0.02)
    for n in range(1, 50):
        heard.push(b"", 0.02 * (n + 1))
    for n in range(1, 51):  # all of it comes after all
        heard.push(frame(n), 1.02)
    heard.push(b"", 1.02 + GRACE_S)
    heard.finish(1.02 + GRACE_S)
    # 840 ms were silence already when it came, and what it was made for is past; then 60 ms of waiting without more.
    blocks = heard.blocks()
    silence = (1000 - LATE_MS) // 20 - 1
    assert blocks[: silence + 1] == [1, *[0] * silence]
    assert blocks[-1] == 51
    assert blocks[silence + 1 :] == list(range(51 - len(blocks) + silence + 2, 52))
    assert len(blocks) == 54


def test_a_track_that_begins_late_begins_with_silence() -> None:
    heard = Heard()
    for n in range(40, 60):
        heard.push(frame(n), 0.02 * (n + 1))
    heard.finish(1.2)
    assert heard.blocks() == [*[0] * 40, *range(41, 61)]


def test_more_than_the_clock_has_room_for_is_dropped() -> None:
    heard = Heard()
    for n in range(100):  # twice as fast as time
        heard.push(frame(n), 0.01 * (n + 1))
    heard.finish(1.0)
    assert 50 <= len(heard.blocks()) <= 52
    assert heard.tally.dropped_bytes == (100 - len(heard.blocks())) * 20 * MS


def test_a_clock_that_runs_a_little_slower_costs_a_frame_now_and_then_and_not_some_samples_of_each() -> None:
    heard = Heard()
    for n in range(5000):
        heard.push(frame(n), 0.0199 * (n + 1))
    assert heard.tally.dropped_bytes % (20 * MS) == 0
    assert 20 <= heard.tally.dropped_bytes // (20 * MS) <= 26
    assert all(heard.blocks())


def test_nothing_at_all_is_silence_to_the_end() -> None:
    heard = Heard()
    assert heard.finish(1.005) == bytes(5 * MS)
    assert heard.pcm == bytes(1005 * MS)


def test_less_than_a_frame_at_the_end_is_left_out() -> None:
    heard = Heard()
    heard.push(frame(0), 0.02)
    heard.finish(0.0399)
    assert heard.blocks() == [1]


def test_the_last_chunk_does_not_go_beyond_the_end() -> None:
    heard = Heard(chunk_ms=80)
    heard.push(frame(0, ms=40), 0.0)
    assert len(heard.finish(0.025)) == 25 * MS


def test_an_hour_without_audio_is_bounded() -> None:
    heard = Heard(chunk_ms=1000)
    heard.push(frame(0), 3600.0)
    heard.push(frame(1), 3600.0 + GRACE_S + 0.001)
    assert len(heard.pcm) <= MAX_FILL_MS * MS
    heard.push(frame(2), 3600.1)
    heard.finish(3600.1)
    assert MAX_FILL_MS * MS <= len(heard.pcm) <= (MAX_FILL_MS + 200) * MS


@pytest.mark.parametrize("cut", [1, 3, 319])
def test_half_samples_wait_for_the_other_half(cut: int) -> None:
    heard = Heard()
    sent = bytes(range(1, 161)) * 4
    for number, at in enumerate(range(0, len(sent), cut)):
        heard.push(sent[at : at + cut], number * cut / 16000)
    heard.finish(0.04)
    assert heard.pcm == sent


@given(
    steps=st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.02, 0.02, 0.02, 0.05, 0.3, 2.0]), st.integers(0, 1000))),
    last=st.sampled_from([0.0, 0.01, 0.02, 0.3, 5.0]),
    chunk_ms=st.sampled_from([20, 40, 80, 160, 1000]),
    rate=st.sampled_from([8000, 16000, 44100]),
)
def test_samples_are_time_whatever_comes(steps: list[tuple[float, int]], last: float, chunk_ms: int, rate: int) -> None:
    fmt = slin(rate)
    tally = FillCounters()
    track = ClockedTrack(fmt, chunk_ms, 100.0, tally=tally)
    now = 100.0
    out = real = 0
    for after_s, samples in steps:
        now += after_s
        chunks = track.push(b"\1\1" * samples, now)
        real += 2 * samples
        assert {len(chunk) for chunk in chunks} <= {fmt.bytes_of(chunk_ms)}
        out += sum(map(len, chunks))
        assert fmt.duration_ms(out) <= (now - 100) * 1000 + 42, "ran ahead"
    now += last
    chunks, rest = track.finish(now)
    assert len(rest) < fmt.bytes_of(chunk_ms)
    out += sum(map(len, chunks)) + len(rest)
    assert -20 < fmt.duration_ms(out) - (now - 100) * 1000 <= 42
    assert out == real + tally.filled_bytes - tally.dropped_bytes
