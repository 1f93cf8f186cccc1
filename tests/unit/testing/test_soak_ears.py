"""The ears of the soak find every kind of fault, count its frames, and find none in what is as sent."""

import pytest

from tests.lab.exact import FRAME_SAMPLES
from tests.load.soak.ears import FRAME_S, PERIOD_FRAMES, SAMPLE_BYTES, Ear, Fault, Noise

OURS, OTHER = Noise(1), Noise(2)
ENCODINGS = ("ulaw", "slin")
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS)


class Heard:
    """An ear with a clock that runs with the frames.

    Args:
        encoding: of the audio.
    """

    def __init__(self, encoding: str, *, through_snoop: bool = False) -> None:
        self.encoding = encoding
        self.now = 0.0
        self.faults: list[Fault] = []
        self.ear = Ear(
            "ear",
            OURS,
            encoding,
            through_snoop=through_snoop,
            others=lambda: [OURS, OTHER],
            clock=lambda: self.now,
            report=self.faults.append,
        )
        self.ear.judging = True

    def take(self, *frames: bytes) -> None:
        for frame in frames:
            self.ear.take(frame)
            self.now += FRAME_S

    def play(self, *numbers: int) -> None:
        self.take(*(OURS.frames(self.encoding, number) for number in numbers))

    @property
    def found(self) -> list[tuple[str, int]]:
        return [(fault.kind, fault.frames) for fault in self.faults]


@each_encoding
def test_what_is_as_sent_has_no_fault_across_the_end_of_the_period(encoding: str) -> None:
    heard = Heard(encoding)
    heard.play(*range(7, 2 * PERIOD_FRAMES + 20))
    assert not heard.faults
    assert heard.ear.behind_s == pytest.approx(0)


@each_encoding
def test_nothing_is_judged_before_the_first_frame_of_the_noise(encoding: str) -> None:
    heard = Heard(encoding)
    heard.take(bytes(FRAME_SAMPLES * SAMPLE_BYTES[encoding]), OTHER.frames(encoding, 3))
    assert heard.ear.began is None
    heard.play(400, 401)
    assert heard.ear.began is not None
    assert not heard.faults


@each_encoding
@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((0, 1, 3, 4), ("lost", 1)),
        ((0, 1, 202, 203), ("lost", 200)),
        ((PERIOD_FRAMES - 1, 2, 3), ("lost", 2)),
        ((0, 1, 1, 2), ("repeated", 1)),
        ((10, 11, 9, 10), ("repeated", 3)),
    ],
)
def test_lost_and_repeated_frames_are_counted(encoding: str, numbers: tuple[int, ...], found: tuple[str, int]) -> None:
    heard = Heard(encoding)
    heard.play(*numbers)
    assert heard.found == [found]
    assert heard.ear.totals == {found[0]: found[1]}


@each_encoding
def test_silence_between_frames_is_a_fault_and_loses_nothing(encoding: str) -> None:
    heard = Heard(encoding)
    heard.play(0, 1)
    silence = {"ulaw": b"\xff", "slin": b"\0\0"}[encoding] * FRAME_SAMPLES
    heard.take(silence)
    heard.play(2, 3)
    assert heard.found == [("silent", 1)]


def test_the_first_silent_frame_of_a_snoop_is_not_a_fault() -> None:
    heard = Heard("slin", through_snoop=True)
    silence = bytes(FRAME_SAMPLES * 2)
    heard.play(0, 1)
    heard.take(silence)
    heard.play(2, 3)
    assert not heard.faults
    heard.take(silence)
    heard.play(4, 5)
    assert heard.found == [("silent", 1)]


@each_encoding
def test_audio_of_another_call_is_foreign(encoding: str) -> None:
    heard = Heard(encoding)
    heard.play(0)
    heard.take(OTHER.frames(encoding, 1))
    heard.play(2)
    assert heard.found == [("foreign", 1)]


@each_encoding
def test_one_changed_sample_damages_a_frame(encoding: str) -> None:
    heard = Heard(encoding)
    heard.play(0)
    frame = bytearray(OURS.frames(encoding, 1))
    frame[-1] ^= 0x10
    heard.take(bytes(frame))
    heard.play(2, 3)
    assert heard.found == [("damaged", 1)]


def test_a_shift_by_a_part_of_a_frame_is_found_and_followed() -> None:
    heard = Heard("slin")
    heard.play(0)
    audio = OURS.frames("slin", 1, 4)
    size = FRAME_SAMPLES * 2
    heard.take(*(audio[at : at + size] for at in range(100, 100 + 3 * size, size)))
    assert heard.found == [("lost", 1)]


def test_a_clock_that_is_slower_is_behind_and_lost_frames_are_not() -> None:
    heard = Heard("slin")
    heard.play(*range(50))
    heard.now += 0.3  # nothing comes
    assert heard.ear.behind_s == pytest.approx(0.3)
    heard.now -= 0.3
    heard.now += 5 * FRAME_S
    heard.play(55)
    assert heard.found == [("lost", 5)]
    assert heard.ear.behind_s == pytest.approx(0)


def test_nothing_is_judged_when_a_call_ends() -> None:
    heard = Heard("slin")
    heard.play(0, 1)
    heard.ear.judging = False
    heard.play(7)
    assert not heard.faults
