"""The program for text-to-speech: its input, the use of its output, and that no process is left."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import time
import wave
from pathlib import Path
from typing import Any

import pytest

from bridge.config.speech import ESPEAK, SpeechConfig
from bridge.speech import Speech, SpeechFailed, Utterance
from bridge.speech import engine as module

SAY = """
import json, os, sys, time, wave
text = sys.stdin.buffer.read().decode()
names = ("ASTERISK_BRIDGE_ARI__PASSWORD", "CLOUD", "OTHER")
given = [text, *sys.argv[1:], *map(os.environ.get, names)]
with open({log!r}, "a") as log:
    print(json.dumps(given), file=log)
time.sleep({sleep})
wav = wave.open(sys.stdout.buffer, "wb")
wav.setparams((1, 2, 16000, len(text) * 160, "NONE", ""))
wav.writeframesraw(bytes(len(text) * 320))
"""


def script(folder: Path, source: str, name: str = "say.py") -> tuple[str, str]:
    (folder / name).write_text(source)
    return sys.executable, str(folder / name)


def speaker(folder: Path, *arguments: str, sleep: float = 0, **keys: object) -> Speech:
    """Return a program that outputs ten milliseconds of silence for each character, and records its input."""
    command = script(folder, SAY.format(log=str(folder / "log"), sleep=sleep))
    return Speech(SpeechConfig.model_validate({"command": (*command, *arguments), **keys}))


def log_of(folder: Path) -> list[list[str | None]]:
    path = folder / "log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_text_goes_in_by_standard_input_and_sound_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASTERISK_BRIDGE_ARI__PASSWORD", "secret")
    monkeypatch.setenv("CLOUD", "key")
    monkeypatch.setenv("OTHER", "key")
    speech = speaker(tmp_path, "{language}", "-v{voice}", "{}", environment=["CLOUD"])
    assert speech.trouble is None
    sound = await speech.say(Utterance("--héllo; $(x)\nthere", "de-DE", "anna"))
    assert (sound.rate, sound.seconds) == (16000, pytest.approx(0.19))
    assert log_of(tmp_path) == [["--héllo; $(x)\nthere", "de-DE", "-vanna", "{}", None, "key", None]]


async def test_a_text_is_said_once(tmp_path: Path) -> None:
    speech = speaker(tmp_path, sleep=0.1)
    first, second = await asyncio.gather(*(speech.say(Utterance("hello")) for _ in range(2)))
    assert first is second is await speech.say(Utterance("hello"))
    assert len(log_of(tmp_path)) == 1
    await speech.say(Utterance("hello", language="de"))
    await speech.say(Utterance("hello", voice="anna"))
    assert len(log_of(tmp_path)) == 3


async def test_a_program_may_lay_out_shared_memory_as_sound_libraries_do(tmp_path: Path) -> None:
    """Debian's espeak-ng is linked to PulseAudio, which makes a file of 64 MiB in memory before anything is spoken."""
    memory = "import os\nos.ftruncate(os.memfd_create('pulseaudio'), 64 << 20)\n"
    source = memory + SAY.format(log=str(tmp_path / "log"), sleep=0)
    sound = await Speech(SpeechConfig(command=script(tmp_path, source))).say(Utterance("hello"))
    assert sound.seconds == pytest.approx(0.05)


async def test_nothing_to_say_needs_no_program() -> None:
    assert (await Speech(SpeechConfig(command=())).say(Utterance(" \n\x00"))).pcm == b""


async def test_control_characters_are_not_said(tmp_path: Path) -> None:
    await speaker(tmp_path).say(Utterance("a\x00b\x1b[0m\r\n\tc"))
    assert log_of(tmp_path)[0][0] == "a b [0m \n\tc"


@pytest.mark.parametrize(
    ("keys", "language", "voice", "spoken"),
    [
        ({}, "", "", "en-US"),
        ({}, "de-DE", "", "de-DE"),
        ({}, "de-DE", "anna", "anna"),
        ({"default_voice": "amy"}, "", "", "amy"),
        ({"default_voice": "amy"}, "en-US", "", "amy"),
        ({"default_voice": "amy"}, "de-DE", "", "de-DE"),
        ({"default_language": "fr-FR"}, "", "", "fr-FR"),
        ({"voices": {"de": "thorsten"}}, "de-AT", "", "thorsten"),
        ({"voices": {"de": "thorsten", "de-at": "resi"}}, "de-AT", "", "resi"),
        ({"voices": {"de": "thorsten", "Anna": "/voices/anna"}}, "de-AT", "anna", "/voices/anna"),
        ({"voices": {"de": "thorsten"}, "default_voice": "amy"}, "de-DE", "de-DE-Wavenet-A", "thorsten"),
        ({"voices": {"de": "thorsten"}, "default_voice": "amy"}, "fr-FR", "fr-FR-Wavenet-A", "amy"),
    ],
)
async def test_which_voice_is_meant(
    tmp_path: Path, keys: dict[str, Any], language: str, voice: str, spoken: str
) -> None:
    await speaker(tmp_path, "{voice}", **keys).say(Utterance("x", language, voice))
    assert log_of(tmp_path)[0][1] == spoken


@pytest.mark.parametrize("name", ["-x", "--model=/etc/passwd", "../x", "/x", "a b", "a;b", "é", "a" * 101, "{text}"])
async def test_names_that_a_program_could_misunderstand_are_refused(tmp_path: Path, name: str) -> None:
    speech = speaker(tmp_path, "{voice}")
    with pytest.raises(SpeechFailed, match="is not a valid voice name"):
        await speech.say(Utterance("x", voice=name))
    with pytest.raises(SpeechFailed, match="is not a valid language name"):
        await speech.say(Utterance("x", language=name))
    assert log_of(tmp_path) == []


async def test_a_missing_program_is_known_at_once() -> None:
    speech = Speech(SpeechConfig(command=("no-such-program", "x")))
    assert speech.trouble == "speech.command: program 'no-such-program' not found"
    with pytest.raises(SpeechFailed, match="program 'no-such-program' not found"):
        await speech.say(Utterance("x"))
    assert Speech(SpeechConfig(command=("/nowhere/espeak-ng",))).trouble == (
        "speech.command: program '/nowhere/espeak-ng' not found (on Debian: apt-get install espeak-ng)"
    )
    switched_off = Speech(SpeechConfig(command=()))
    assert switched_off.trouble is not None
    with pytest.raises(SpeechFailed, match=r"speech\.command is empty"):
        await switched_off.say(Utterance("x"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys; sys.exit('no such model\\nmore')", r"failed \(status 1\): no such model$"),
        ("raise SystemExit(3)", r"failed \(status 3\): no error message$"),
        ("import os; os.kill(os.getpid(), 9)", r"failed \(signal 9, SIGKILL\)"),
        ("print('hello')", "the output of .* is not a WAV, FLAC, Ogg or MP3 file"),
        ("pass", "the output of .* is not a WAV"),
        ("import sys; sys.stderr.write('x' * 9_000_000); sys.exit(1)", r"failed \(status 1\): x{200}$"),
    ],
)
async def test_what_went_wrong_is_said(tmp_path: Path, source: str, words: str) -> None:
    speech = Speech(SpeechConfig(command=script(tmp_path, source)))
    with pytest.raises(SpeechFailed, match=words) as caught:
        await speech.say(Utterance("the text is private" * 50))
    assert "private" not in str(caught.value)


async def test_a_text_that_is_too_long(tmp_path: Path) -> None:
    speech = speaker(tmp_path, max_text_characters=10)
    await speech.say(Utterance("x" * 10))
    with pytest.raises(SpeechFailed, match=r"11 characters; speech\.max_text_characters allows 10"):
        await speech.say(Utterance("x" * 11))


def running(marker: str) -> list[int]:
    """Return the processes whose command line contains a marker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


FAMILY = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', {marker!r}])"


async def test_a_program_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    marker = str(tmp_path / "marker")
    speech = Speech(SpeechConfig(command=(*script(tmp_path, FAMILY.format(marker=marker)), marker), timeout_s=1.0))
    began = time.monotonic()
    saying = asyncio.create_task(speech.say(Utterance("x")))
    while len(running(marker)) < 2:
        await asyncio.sleep(0.02)
        assert time.monotonic() - began < 5
    with pytest.raises(SpeechFailed, match="produced no sound within 1 s"):
        await saying
    assert time.monotonic() - began < 4
    await gone(marker)


async def test_a_program_that_nobody_waits_for_is_killed(tmp_path: Path) -> None:
    marker = str(tmp_path / "marker")
    speech = Speech(SpeechConfig(command=(*script(tmp_path, FAMILY.format(marker=marker)), marker)))
    saying = asyncio.create_task(speech.say(Utterance("x")))
    async with asyncio.timeout(60):
        while len(running(marker)) < 2:
            await asyncio.sleep(0.02)
    saying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saying
    await gone(marker)


async def test_what_a_program_leaves_running_is_killed(tmp_path: Path) -> None:
    marker = str(tmp_path / "marker")
    source = f"""
import subprocess, sys, wave
sleep = [sys.executable, "-c", "import time; time.sleep(60)", {marker!r}]
subprocess.Popen(sleep, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
wav = wave.open(sys.stdout.buffer, "wb")
wav.setparams((1, 2, 8000, 80, "NONE", ""))
wav.writeframesraw(bytes(160))
"""
    sound = await Speech(SpeechConfig(command=script(tmp_path, source))).say(Utterance("x"))
    assert sound.seconds == pytest.approx(0.01)
    await gone(marker)


async def gone(marker: str) -> None:
    async with asyncio.timeout(60):  # a killed process is still visible until init has reaped it
        while running(marker):
            await asyncio.sleep(0.02)


async def test_endless_output_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OUTPUT_BYTES", 1_000_000)
    source = "import sys\nwhile True: sys.stdout.buffer.write(bytes(100_000))"
    speech = Speech(SpeechConfig(command=script(tmp_path, source)))
    with pytest.raises(SpeechFailed, match="wrote more than 1000000 bytes"):
        await speech.say(Utterance("x"))


async def test_only_so_many_run_at_once(tmp_path: Path) -> None:
    speech = speaker(tmp_path, sleep=0.4)
    running_now: list[int] = []
    texts = [asyncio.create_task(speech.say(Utterance(f"text {number}"))) for number in range(10)]
    while not all(task.done() for task in texts):
        running_now.append(len(running(str(tmp_path / "say.py"))))
        await asyncio.sleep(0.02)
    assert max(running_now) == module.MAX_RUNS
    assert len(log_of(tmp_path)) == 10


async def test_a_program_that_does_not_read_may_speak_all_the_same(tmp_path: Path) -> None:
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(160))
    source = f"import sys, os; os.close(0); sys.stdout.buffer.write({output.getvalue()!r})"
    speech = Speech(SpeechConfig(command=script(tmp_path, source), max_text_characters=100_000))
    assert (await speech.say(Utterance("x" * 100_000))).pcm == bytes(160)


ESPEAK_LIKE = """
import json, os, sys, wave
sys.stdin.read()
with open({log!r}, "a") as log:
    print(json.dumps(sys.argv[1:]), file=log)
if sys.argv[1] == "alloy":
    os.kill(os.getpid(), 11)
if sys.argv[1] not in ("en-US", "de"):
    sys.exit("Error: The specified espeak-ng voice does not exist.")
wav = wave.open(sys.stdout.buffer, "wb")
wav.setparams((1, 2, 8000, 1, "NONE", ""))
wav.writeframesraw(bytes(2))
"""


async def test_espeak_is_asked_for_the_next_best_voice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Here it is a script that answers as espeak-ng 1.52 does; tests/lab uses the real one."""
    source = ESPEAK_LIKE.format(log=str(tmp_path / "log"))
    speech = Speech(SpeechConfig(command=(*script(tmp_path, source, "espeak-ng"), "{voice}")))
    with caplog.at_level(logging.WARNING):
        await speech.say(Utterance("x", "de-XX", "Joanna"))
    assert [line[0] for line in log_of(tmp_path)] == ["Joanna", "de-XX", "de"]
    assert ["=Joanna" in record.getMessage() for record in caplog.records] == [True, False]
    await speech.say(Utterance("y", "de-XX", "Joanna"))
    assert [line[0] for line in log_of(tmp_path)] == ["Joanna", "de-XX", "de", "de"]
    await speech.say(Utterance("x", "tlh", "alloy"))
    assert [line[0] for line in log_of(tmp_path)][4:] == ["alloy", "tlh", "en-US"]


def test_the_default_speaks_from_standard_input_to_standard_output() -> None:
    assert SpeechConfig().command == ESPEAK
    assert {"--stdin", "--stdout", "{voice}"} <= set(ESPEAK)
