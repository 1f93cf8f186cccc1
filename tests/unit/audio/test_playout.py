"""The playout: exact, in order, bounded, and silent no more often than it must be."""

import itertools
import tracemalloc
from collections.abc import Callable
from struct import pack

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.audio.adaptive_lead import AdaptiveLead
from bridge.audio.format import SLIN_RATES, AudioFormat, Encoding, slin
from bridge.audio.playout import MAX_MARKS, Playout
from bridge.audio.resample import Resampler

FMT = slin(8000)
FRAME = 320


def numbered(first: int, samples: int) -> bytes:
    """Return samples that differ from each other and from silence."""
    return b"".join(pack("<H", 1 + (first + each) % 65535) for each in range(samples))


def drain(playout: Playout) -> list[bytes]:
    """Return all frames until two ticks in a row have nothing."""
    frames = []
    dry = 0
    while dry < 2:
        frame = playout.take()
        if frame is None:
            dry += 1
        else:
            dry = 0
            frames.append(frame)
    return frames


@given(st.lists(st.integers(1, 900), max_size=30))
def test_what_goes_in_comes_out(sizes: list[int]) -> None:
    playout = Playout(FMT, 10_000)
    sent = b""
    for size in sizes:
        block = numbered(len(sent) // 2, size)
        assert playout.play(block) == 0
        sent += block
    assert playout.queued_ms == pytest.approx(len(sent) / 16)
    frames = drain(playout)
    assert all(len(frame) == FRAME for frame in frames)
    heard = b"".join(frames)
    assert heard[: len(sent)] == sent
    assert not any(heard[len(sent) :])
    assert playout.queued_ms == 0
    assert playout.padded_frames == (len(sent) % FRAME != 0)


def near(one: bytes, other: bytes) -> bool:
    """Alike but for the last bit, as the sums of a filter are taken in another order for another size of block."""
    difference = np.frombuffer(one, "<i2").astype(int) - np.frombuffer(other, "<i2")
    return bool(np.abs(difference).max() <= 1)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("play"), st.integers(0, 500)),
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("mark"), st.just(0)),
        st.tuples(st.just("clear"), st.just(0)),
    ),
    max_size=60,
)


@given(ACTIONS, st.sampled_from([50, 100, 1000]))
def test_against_the_simplest_queue_there_is(actions: list[tuple[str, int]], max_ms: int) -> None:
    playout = Playout(FMT, max_ms)
    queue = b""  # the same thing, slowly
    marks: list[tuple[int, str]] = []  # bytes still before each mark
    held = playing = False
    limit_ms = max_ms
    count = 0
    for action, amount in actions:
        if action == "play":
            block = numbered(count, amount)
            count += amount
            kept = len(queue) < limit_ms * 16
            limit_ms = max_ms if kept else max_ms // 2
            assert playout.play(block) == (0 if kept else len(block))
            queue += block if kept else b""
        elif action == "mark":
            name = f"m{count}"
            assert playout.mark(name)
            marks.append((len(queue), name))
        elif action == "clear":
            assert playout.clear() == [name for _, name in marks]
            queue, marks, held, playing = b"", [], False, False
            limit_ms = max_ms
        else:
            for _ in range(amount):
                frame = playout.take()
                if not queue:
                    assert frame is None
                    held = playing = False
                    continue
                if len(queue) < FRAME and not held and not playing:
                    assert frame is None
                    held = True
                    continue
                held, playing = False, len(queue) >= FRAME
                assert frame == queue[:FRAME].ljust(FRAME, b"\0")
                marks = [(before - FRAME, name) for before, name in marks]
                queue = queue[FRAME:]
                marks = [(min(before, len(queue)), name) for before, name in marks]
            assert playout.reached() == [name for before, name in marks if before <= 0]
            marks = [(before, name) for before, name in marks if before > 0]
        assert playout.queued_ms == pytest.approx(len(queue) / 16)


@pytest.mark.parametrize("block_ms", [1, 5, 10, 15, 25, 30, 60])
def test_a_steady_sender_is_never_cut_after_the_start(block_ms: int) -> None:
    """One who sends as fast as time goes is silent for the first ticks at most, whatever the size of the blocks."""
    playout = Playout(FMT, 10_000)
    sent = b""
    heard: list[bytes | None] = []
    for ms in range(1, 3000):
        if ms % block_ms == 0:
            block = numbered(len(sent) // 2, 8 * block_ms)
            playout.play(block)
            sent += block
        if ms % 20 == 0:
            heard.append(playout.take())
    first = next(number for number, frame in enumerate(heard) if frame)
    assert first <= 1 + block_ms // 20
    assert None not in heard[first:]
    assert sent.startswith(b"".join(frame for frame in heard if frame))
    assert playout.padded_frames == 0


def test_a_dry_spell_is_padded_once() -> None:
    playout = Playout(FMT, 10_000)
    playout.play(numbered(0, 120))  # 15 ms
    assert playout.take() is None  # more may be on its way
    assert playout.take() == numbered(0, 120).ljust(FRAME, b"\0")
    assert [playout.take() for _ in range(3)] == [None] * 3
    assert playout.padded_frames == 1


def test_a_late_block_joins_the_partial_frame() -> None:
    playout = Playout(FMT, 10_000)
    playout.play(numbered(0, 120))
    assert playout.take() is None
    playout.play(numbered(120, 120))
    assert playout.take() == numbered(0, 160)
    assert playout.take() == numbered(160, 80).ljust(FRAME, b"\0")  # it ends without a hole


def test_after_the_end_a_partial_frame_is_held_anew() -> None:
    playout = Playout(FMT, 10_000)
    playout.play(numbered(0, 240))
    assert [playout.take() is None for _ in range(2)] == [False, False]
    playout.play(numbered(240, 80))
    assert [playout.take() is None for _ in range(2)] == [True, False]


def test_a_lead_is_gathered_after_a_dry_spell() -> None:
    playout = Playout(FMT, 10_000, lead_ms=40)
    playout.play(numbered(0, 160))
    assert playout.take() is None
    playout.play(numbered(160, 160))
    assert [playout.take(), playout.take()] == [numbered(0, 160), numbered(160, 160)]


def test_a_lead_that_does_not_come_is_waited_for_so_long_and_no_longer() -> None:
    playout = Playout(FMT, 10_000, lead_ms=40)
    playout.play(numbered(0, 160))
    assert [playout.take() for _ in range(3)] == [None, None, numbered(0, 160)]


def test_every_dry_spell_gathers_its_own_lead() -> None:
    playout = Playout(FMT, 10_000, lead_ms=40)
    playout.play(numbered(0, 320))
    assert [playout.take() is None for _ in range(3)] == [False, False, True]
    playout.play(numbered(320, 160))
    assert [playout.take() is None for _ in range(3)] == [True, True, False]
    playout.play(numbered(480, 80))
    assert [playout.take() is None for _ in range(3)] == [False, True, True]  # padded: dry again
    playout.play(numbered(560, 160))
    assert [playout.take() is None for _ in range(3)] == [True, True, False]


def test_a_sender_who_is_ahead_is_not_delayed_by_a_lead() -> None:
    playout = Playout(FMT, 10_000, lead_ms=40)
    playout.play(numbered(0, 320))
    assert playout.take() == numbered(0, 160)


@given(st.lists(st.integers(0, 20), min_size=50, max_size=50))
def test_with_a_lead_an_uneven_sender_is_never_cut_after_the_start(delays_ms: list[int]) -> None:
    """A lead of 40 ms, the first 20 of which are played immediately, absorbs delays of up to 20 ms."""
    arrivals = sorted((20 * number + delay, number) for number, delay in enumerate(delays_ms))
    playout = Playout(FMT, 10_000, lead_ms=40)
    heard: list[bytes | None] = []
    for now_ms in range(0, 20 * len(delays_ms) + 200, 20):
        while arrivals and arrivals[0][0] <= now_ms:
            arrivals.pop(0)
            playout.play(numbered(160 * sum(1 for frame in heard if frame), 160))  # contents do not matter here
        heard.append(playout.take())
    first = next(number for number, frame in enumerate(heard) if frame)
    assert first <= 2
    assert None not in heard[first : first + len(delays_ms)]


def test_a_block_is_kept_whole_or_refused_whole() -> None:
    playout = Playout(FMT, 40)
    assert playout.play(numbered(0, 200)) == 0
    assert playout.play(numbered(200, 500)) == 0  # it begins where there is room
    assert playout.play(numbered(700, 100)) == 200
    assert playout.play(numbered(700, 100), 16000) == 100
    assert playout.queued_ms == 87.5
    assert playout.play(numbered(700, 100), follows=True) == 0  # of the same message
    assert b"".join(drain(playout))[:1600] == numbered(0, 800)
    assert playout.play(numbered(0, 10)) == 0


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("adapts", [False, True])
def test_short_blocks_sent_too_fast_leave_long_passages_instead_of_fragments(rate: int, adapts: bool) -> None:
    """Blocks of 20 ms, sent four times as fast as they play."""
    accepted: list[bool] = []
    lead = AdaptiveLead(20, 100, clock=lambda: len(accepted) * 0.005)
    playout = Playout(FMT, 2000, lead=lead if adapts else None)
    for _ in range(500):
        accepted += [playout.play(bytes(rate // 50 * 2), rate) == 0 for _ in range(4)]
        playout.take()
    passages = [len(list(passage)) for kept, passage in itertools.groupby(accepted) if kept]
    assert len(passages) > 3
    assert min(passages[:-1]) >= 50  # 1 s: half of the queue


def test_a_cleared_queue_accepts_audio_again() -> None:
    playout = Playout(FMT, 1000)
    playout.play(bytes(16000))
    assert playout.play(bytes(320)) == 320
    playout.clear()
    assert playout.play(bytes(12000)) == 0
    assert playout.play(bytes(320)) == 0  # below the limit, above half of it


def test_prompts_of_the_bridge_do_not_end_a_refusal() -> None:
    playout = Playout(FMT, 1000)
    playout.play(bytes(16000))
    assert playout.play(bytes(320)) == 320
    drained = [playout.take() for _ in range(10)]
    assert playout.play(bytes(320), follows=True) == 0
    assert playout.play(bytes(320)) == 320
    assert all(drained)


def test_a_mark_is_reached_with_its_last_byte() -> None:
    playout = Playout(FMT, 10_000)
    playout.play(numbered(0, 160))
    playout.mark("one frame")
    playout.play(numbered(160, 1))
    playout.mark("one sample more")
    assert playout.reached() == []
    playout.take()
    assert playout.reached() == ["one frame"]
    playout.take()
    assert playout.reached() == ["one sample more"]


def test_marks_with_nothing_to_wait_for_are_reached_at_once_and_in_order() -> None:
    playout = Playout(FMT, 10_000)
    playout.mark("a")
    playout.mark("b")
    assert playout.reached() == ["a", "b"]
    assert playout.reached() == []


def test_clear_tells_every_mark_once_and_in_order() -> None:
    playout = Playout(FMT, 10_000)
    playout.mark("before")  # reached, but nobody has asked yet
    playout.play(numbered(0, 1000))
    playout.mark("within")
    playout.mark("again")
    assert playout.clear() == ["before", "within", "again"]
    assert playout.reached() == []
    assert playout.take() is None


def test_clear_while_a_partial_frame_is_held() -> None:
    playout = Playout(FMT, 10_000)
    playout.play(numbered(0, 80))
    assert playout.take() is None
    assert playout.clear() == []
    playout.play(numbered(500, 80))
    assert playout.take() is None  # held again: what was held before the clear does not count
    assert playout.take() == numbered(500, 80).ljust(FRAME, b"\0")


def test_marks_after_a_clear_count_from_there() -> None:
    playout = Playout(FMT, 10_000)
    playout.play(numbered(0, 1000))
    playout.take()
    playout.clear()
    playout.play(numbered(0, 160))
    playout.mark("new")
    assert playout.reached() == []
    playout.take()
    assert playout.reached() == ["new"]


def memory_of(act: Callable[[], object]) -> tuple[int, int]:
    """Do something; return how many bytes more are in use after it, and at most were meanwhile."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def test_marks_are_bounded() -> None:
    playout = Playout(FMT, 10_000)
    playout.play(numbered(0, 160))
    assert all(playout.mark(str(each)) for each in range(MAX_MARKS))
    assert not playout.mark("one too many")
    playout.take()
    assert len(playout.reached()) == MAX_MARKS
    assert playout.mark("room again")


def test_a_large_file_is_kept_as_it_came() -> None:
    data = numbered(0, 60_000) * 44  # 5 MiB
    playout = Playout(FMT, 600_000)

    def play() -> None:
        playout.play(data)
        playout.play(b"\1\0")  # not joined to something large either

    assert memory_of(play)[1] < 64 << 10
    assert b"".join(drain(playout)).startswith(data + b"\1\0")


def test_tiny_blocks_do_not_pile_up_as_objects() -> None:
    playout = Playout(FMT, 10_000)

    def play() -> None:
        for each in range(8000):
            playout.play(numbered(each, 1))

    assert memory_of(play)[0] < 3 * 8000 * 2
    assert b"".join(drain(playout)) == numbered(0, 8000)


@given(st.sampled_from(SLIN_RATES), st.lists(st.integers(1, 5000), min_size=1, max_size=8))
def test_another_rate_is_converted_in_order_whatever_the_blocks(rate: int, sizes: list[int]) -> None:
    playout = Playout(FMT, 60_000)
    sent = b""
    for size in sizes:
        block = numbered(len(sent) // 2, size)
        assert playout.play(block, rate) == 0
        sent += block
    own = numbered(0, 200)
    playout.play(own)  # not overtaken, nor overtaking
    expected = (sent if rate == 8000 else Resampler(rate, 8000).convert(sent)) + own
    assert playout.queued_ms == pytest.approx(len(expected) / 16)
    heard = b"".join(drain(playout))
    assert near(heard[: len(expected)], expected)
    assert not any(heard[len(expected) :])
    assert playout.queued_ms == 0


def test_rates_in_turn_keep_their_converters_until_a_clear() -> None:
    playout = Playout(FMT, 60_000)
    converters = {rate: Resampler(rate, 8000) for rate in (16000, 48000)}
    expected = b""
    for number in range(50):
        for rate, converter in converters.items():
            block = numbered(number * rate // 50, rate // 50)
            playout.play(block, rate)
            expected += converter.convert(block)  # no click between two blocks of a rate
    heard = drain(playout)
    assert len(heard) == 100
    assert near(b"".join(heard), expected)
    playout.play(b"\xff\x7f" * 320, 16000)
    playout.take()
    playout.clear()
    playout.play(bytes(640), 16000)
    assert not any(b"".join(drain(playout)))  # nothing of what was cleared is left in a converter


@pytest.mark.parametrize("rate", [rate for rate in SLIN_RATES if rate != 8000])
def test_a_block_at_another_rate_is_kept_whole_or_refused_whole(rate: int) -> None:
    playout = Playout(FMT, 1000)
    assert playout.play(numbered(0, 77), rate) == 0
    assert playout.play(numbered(0, rate * 2), rate) == 0
    queued = playout.queued_ms
    assert queued == pytest.approx(2000 + 77 / rate * 1000, abs=0.2)
    assert playout.play(numbered(0, rate), rate) == 16000
    assert playout.queued_ms == queued
    assert len(b"".join(drain(playout))) == -(-round(queued * 16) // 320) * 320


def test_a_large_block_at_another_rate_is_not_converted_at_once() -> None:
    playout = Playout(slin(192000), 600_000)
    data = bytes(8 << 20)
    tracemalloc.start()
    playout.play(data, 8000)  # 192 MiB when converted
    playout.take()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_tiny_blocks_at_another_rate_do_not_pile_up_as_objects() -> None:
    playout = Playout(FMT, 10_000)

    def play() -> None:
        for each in range(16000):
            playout.play(numbered(each, 1), 16000)

    play()  # and the converter's own memory is allocated
    playout.clear()
    assert memory_of(play)[0] < 5 * 16000 * 2
    assert len(b"".join(drain(playout))) == 16000


def test_half_a_sample_would_turn_all_that_follows_into_noise() -> None:
    playout = Playout(FMT, 1000)
    with pytest.raises(ValueError, match="3 bytes"):
        playout.play(b"abc")
    assert playout.queued_ms == 0


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_frames_last_20_ms_at_every_rate(rate: int) -> None:
    playout = Playout(slin(rate), 1000)
    playout.play(bytes(rate * 2))
    assert {len(frame) for frame in drain(playout)} == {rate // 50 * 2}


def test_companded_silence() -> None:
    playout = Playout(AudioFormat(Encoding.ULAW, 8000), 1000)
    playout.play(b"\x12")
    playout.take()
    assert playout.take() == b"\x12" + b"\xff" * 159
