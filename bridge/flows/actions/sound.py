"""Actions that play to the caller: talk, play, beep, echo; and sleep."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from bridge.audio import tones
from bridge.flows.action_registry import ActionFailed, Missing, action
from bridge.flows.action_settings import ActionSettings
from bridge.flows.options import HTTP_URL, MAX_DURATION_MS, OR_VARIABLE, Options
from bridge.flows.variables import holds_variable
from bridge.speech.engine import Utterance
from bridge.speech.fetch import SoundUnavailable

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run

MAX_TEXT_CHARACTERS = 10_000
MAX_TIMES = 100
MAX_SOUNDS = 100
ECHO_MS = 180_000
"""Default duration of an echo, as in VoIPBIN."""

Times = Annotated[int, Field(ge=1, le=MAX_TIMES, description=f"a number from 1 to {MAX_TIMES}"), OR_VARIABLE]
Duration = Annotated[
    int, Field(ge=0, le=MAX_DURATION_MS, description=f"milliseconds from 0 to {MAX_DURATION_MS}"), OR_VARIABLE
]
SwitchOption = Annotated[bool, Field(description="true or false"), OR_VARIABLE]


class TalkOptions(Options):
    """Options of talk."""

    text: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_TEXT_CHARACTERS,
            description=f"a string of 1 to {MAX_TEXT_CHARACTERS} characters",
        ),
    ]
    language: Annotated[str, Field(max_length=35, description="a language, for example en-US")] = ""
    voice_id: Annotated[str, Field(max_length=100, description="a voice")] = ""
    provider: Annotated[str, Field(max_length=35, description="a string; ignored")] = ""
    gender: Annotated[str, Field(max_length=35, description="a string; ignored: the voice determines it")] = ""
    digits_handle: Annotated[Literal["", "next"], Field(description='"next" or nothing')] = ""
    async_: Annotated[SwitchOption, Field(alias="async")] = False
    times: Times = 1


def _speech(_: TalkOptions, settings: ActionSettings) -> Missing:
    trouble = settings.speech_trouble()
    if trouble is not None:
        yield "", trouble


@action("talk", options=TalkOptions, needs_audio=True, needs=_speech)
async def talk(run: Run, options: TalkOptions) -> None:
    """Speak text; return when it has been played, or at a DTMF digit (``digits_handle``: ``next``)."""
    text = plain_text(options.text)
    if not text:
        return
    said = await run.services.speech.say(Utterance(text, options.language, options.voice_id))

    async def speak() -> None:
        for _ in range(options.times):
            if not await run.speak(said.pcm, said.rate, until_key=options.digits_handle == "next"):
                return

    if options.async_:
        run.spawn(speak(), "talk", len(said.pcm))
    else:
        await speak()


class PlayOptions(Options):
    """Options of play."""

    stream_urls: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4096, description="an http(s) URL, or a file's name")]],
        Field(min_length=1, max_length=MAX_SOUNDS, description=f"a list of 1 to {MAX_SOUNDS} URLs"),
    ]
    times: Times = 1
    digits_handle: Annotated[Literal["", "next"], Field(description='"next" or nothing')] = ""

    untouched: ClassVar[frozenset[str]] = frozenset({"stream_urls"})

    def urls(self) -> Iterable[tuple[str, str]]:
        """Return the servers of the sounds."""
        return [(f"stream_urls[{n}]", url) for n, url in enumerate(self.stream_urls) if "://" in url]


def _files(options: PlayOptions, settings: ActionSettings) -> Missing:
    for index, url in enumerate(options.stream_urls):
        if not settings.sounds_dir and not holds_variable(url) and not HTTP_URL.fullmatch(url):
            yield f"stream_urls[{index}]", "not an http(s) URL, and speech.sounds_dir is empty"


@action("play", options=PlayOptions, needs_audio=True, needs=_files)
async def play(run: Run, options: PlayOptions) -> None:
    """Play sounds in order; skip those that are unavailable, and fail with the last error after the others."""
    trouble = ""
    for _ in range(options.times):
        for url in options.stream_urls:
            try:
                found = await run.services.sounds.get(run.variables.fill_url(url), configured=run.names_host(url))
            except (SoundUnavailable, ValueError) as problem:
                trouble = str(problem)
                continue
            await run.speak(found.pcm, found.rate, until_key=options.digits_handle == "next")
        if trouble:
            raise ActionFailed(trouble)


class NoOptions(Options):
    """No options."""


@action("beep", options=NoOptions, needs_audio=True)
async def beep(run: Run, _: NoOptions) -> None:
    """Play one short tone."""
    tone = tones.beep()
    await run.speak(tone.pcm, tone.rate)


class EchoOptions(Options):
    """Options of echo: the duration; 0: three minutes."""

    duration: Duration = 0


@action("echo", "stream_echo", options=EchoOptions, needs_audio=True)
async def echo(run: Run, options: EchoOptions) -> None:
    """Play the caller's audio back to the caller."""
    await run.stop_playback()
    await run.services.echo.echo(run.leg, (options.duration or ECHO_MS) / 1000)


class SleepOptions(Options):
    """Options of sleep."""

    duration: Annotated[
        int, Field(ge=0, le=MAX_DURATION_MS, description=f"milliseconds from 0 to {MAX_DURATION_MS}"), OR_VARIABLE
    ]


@action("sleep", options=SleepOptions, needs_audio=True)
async def sleep(_: Run, options: SleepOptions) -> None:
    """Wait; the caller receives silence."""
    await asyncio.sleep(options.duration / 1000)


_TAG = re.compile(r"<[^<>]{0,500}>")


def plain_text(text: str) -> str:
    """Return the text to speak, without SSML tags, as the engine accepts plain text."""
    if text.lstrip().startswith("<speak"):
        text = _TAG.sub(" ", text)
        for name, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&")):
            text = text.replace(name, character)
    return " ".join(text.split())
