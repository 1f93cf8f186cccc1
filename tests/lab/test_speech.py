"""The lab's espeak-ng speaks and a phone hears it: what was spoken is found in the audio, other sentences are not."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.sound import Sound
from bridge.config.speech import SpeechConfig
from bridge.speech import Speech, Utterance
from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones
from tests.lab.target import Target
from tests.lab.waiting import sends

RATE = 8000
SENTENCES = (
    "Thank you for calling. All of our agents are busy at the moment.",
    "The weather in Berlin is rainy today, with some sun in the evening.",
    "Please enter your account number, followed by the pound sign.",
    "Your appointment is on Monday, the third of March, at ten o'clock.",
)


def samples(sound: Sound, rate: int = RATE) -> judge.Samples:
    return np.frombuffer(sound.at(rate).pcm, "<i2")


@pytest.fixture
def speech(lab: Lab) -> Speech:
    """The lab's program, as a bridge would run it."""
    return Speech(SpeechConfig(command=lab.speech_command))


@pytest.mark.core
async def test_a_sentence_is_spoken_the_same_each_time(lab: Lab, speech: Speech) -> None:
    assert speech.trouble is None
    first = await speech.say(Utterance(SENTENCES[0]))
    again = await Speech(SpeechConfig(command=lab.speech_command)).say(Utterance(SENTENCES[0]))
    assert first == again
    assert first.rate == 22050
    assert 3 < first.seconds < 6
    heard = np.frombuffer(first.pcm, "<i2")
    assert judge.rms(heard) > 1000
    assert np.abs(heard.astype(int)).max() > 8000


@pytest.mark.core
async def test_languages_and_the_voices_of_clouds(speech: Speech) -> None:
    """espeak-ng finds the nearest language; if it has none, and if it crashes, the next best is used."""
    text = "Guten Tag, hier ist die Auskunft."

    async def said(language: str, voice: str = "") -> Sound:
        return await speech.say(Utterance(text, language, voice))

    german, american, british = [await said(language) for language in ("de", "en-us", "en-gb")]
    assert german != american != british != german
    assert await said("de-DE") == await said("de-DE", "de-DE-Wavenet-A") == await said("de-AT", "Marlene") == german
    assert await said("en-US") == await said("") == await said("en-US", "alloy") == american
    assert await said("tlh-XX", "Joanna") == american
    assert await said("en-US", "en-us+f3") not in (american, german)


async def test_texts_of_every_kind_are_only_spoken(speech: Speech) -> None:
    hostile = (
        "--help",
        "-f /etc/passwd",
        "$(id) `id` ; id",
        "<speak>one</speak>",
        "%s%n",
        "日本語 и кириллица",
        "\ud800",
        "[[five]]",
    )
    for text in hostile:
        assert (await speech.say(Utterance(text))).seconds > 0.2, text


async def test_what_was_said_is_found_and_nothing_else(speech: Speech) -> None:
    """Each sentence as a phone would hear it: resampled from another rate, quieter, through G.711, a frame lost."""
    known = [await speech.say(Utterance(text)) for text in SENTENCES]
    noise = np.random.default_rng(1)
    for number, sound in enumerate(known):
        wide = np.frombuffer(sound.at(16000).pcm, "<i2")
        spoken = samples(Sound((wide * 0.4).astype("<i2").tobytes(), 16000))
        half = len(spoken) // 2
        spoken = np.concatenate(
            [judge.silence(1.234, RATE), spoken[:half], spoken[half + 160 :], judge.silence(1, RATE)]
        )
        spoken = (spoken + noise.normal(0, 15, len(spoken))).astype(np.int16)
        heard = peer.ulaw_samples(peer.ulaw_bytes(spoken))
        for other, reference in enumerate(known):
            found = judge.find(samples(reference), heard, RATE)
            assert len(found) == (other == number), (number, other, found)
            if found:
                assert found[0].offset_s == pytest.approx(1.234, abs=0.01)
                assert found[0].likeness > 0.85
            else:
                assert judge.find(samples(reference), heard, RATE, least=0.4) == []


async def test_sentences_are_found_in_their_order_as_often_as_they_were_said(speech: Speech) -> None:
    first, second = [samples(await speech.say(Utterance(text))) for text in SENTENCES[:2]]
    pause = judge.silence(0.5, RATE)
    heard = np.concatenate([pause, first, pause, second, pause, first])
    once, twice = judge.find(second, heard, RATE), judge.find(first, heard, RATE)
    begins = [0.5, 1.5 + (len(first) + len(second)) / RATE]
    assert [found.offset_s for found in twice] == pytest.approx(begins, abs=0.002)
    assert [found.offset_s for found in once] == pytest.approx([1.0 + len(first) / RATE], abs=0.002)
    cut = np.concatenate([pause, first[: len(first) // 2], pause, pause])
    assert judge.find(first, cut, RATE) == []
    assert judge.find(first, cut, RATE, least=0.5)
    assert judge.find(first, judge.silence(5, RATE), RATE) == []


@pytest.mark.core
async def test_a_phone_hears_what_was_said(target: Target, phones: Phones, speech: Speech) -> None:
    said, other = [await speech.say(Utterance(text)) for text in SENTENCES[1:3]]
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.silence(1, RATE))
    await alice.answered()
    call = await target.call_from("1001")
    async with target.stream(call["id"], encapsulation="sln", rate=16000) as application:
        await application.heard(10)
        await application.send(said.at(16000).pcm)
        await sends(alice, said.seconds + 1)
    await alice.hangup()
    heard = alice.recording()
    found = judge.find(samples(said), heard, RATE)
    print(f"heard: {found}")
    assert len(found) == 1
    assert found[0].likeness > 0.85
    assert judge.find(samples(other), heard, RATE, least=0.45) == []
