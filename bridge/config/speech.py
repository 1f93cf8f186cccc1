"""The section ``[speech]``: speech and sounds that are played in calls."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from bridge.config.values import FilePath, Section, Text, as_tuple

ESPEAK = ("espeak-ng", "--stdin", "--stdout", "-b", "1", "-v", "{voice}")
"""Reads UTF-8 from standard input, writes a WAV file to standard output; the voice may be a language."""


def _check_command(command: tuple[str, ...]) -> tuple[str, ...]:
    if command and not command[0].strip():
        raise ValueError("has no program: its first string is empty")
    for part in command:
        if "\0" in part:
            raise ValueError("contains a NUL character")
        if "{text}" in part:
            raise ValueError("contains {text}; the text is sent on standard input, where no other program sees it")
    return command


def _check_folder(folder: str) -> str:
    if folder and not Path(folder).is_absolute():
        raise ValueError(f"{folder[:200]!r} is not an absolute path")
    return folder


class SpeechConfig(Section):
    """The speech program, and which sounds may be played."""

    command: Annotated[
        tuple[Text, ...],
        AfterValidator(_check_command),
        BeforeValidator(as_tuple),
        Field(description='a list of strings, for example ["espeak-ng", "--stdin", "--stdout"]'),
    ] = ESPEAK
    """Text-to-speech program: text on its standard input, a sound file on its standard output; no shell. `{language}`
    and `{voice}` are filled in. Empty: no speech."""
    default_language: Text = "en-US"
    """Language of texts for which none is requested."""
    default_voice: Text = ""
    """Voice for `default_language` where none is requested. Empty: `{voice}` is the language, which espeak-ng accepts.
    """
    voices: Annotated[dict[str, Text], Field(description='a table of strings, as in {"de" = "de_DE-thorsten"}')] = (
        Field(default_factory=dict)
    )
    """The program's names for the voices and languages that flows name: `{"de" = "de_DE-thorsten"}`."""
    timeout_s: Annotated[float, Field(ge=0.1, le=300, description="a number of seconds from 0.1 to 300")] = 10.0
    """How long one text may take to be converted, the wait for its turn included: four programs run at the same
    time."""
    max_memory_mb: Annotated[int, Field(ge=16, le=1 << 20, description="a number of MiB from 16 to 1048576")] = 2048
    """Address space of each process of the program, in MiB. Neural voices need several GiB."""
    environment: Annotated[
        tuple[Text, ...], BeforeValidator(as_tuple), Field(description='a list of names, for example ["API_KEY"]')
    ] = ()
    """Names of environment variables that the program inherits besides `PATH`, the locale and the time zone."""
    max_text_characters: Annotated[int, Field(ge=1, le=100_000, description="a number from 1 to 100000")] = 5000
    """Longer texts are rejected."""
    cache_bytes: Annotated[int, Field(ge=0, le=1 << 34, description="a number of bytes from 0 to 17179869184")] = (
        67_108_864
    )
    """Memory for sounds that were spoken, and as much again for those that were fetched; the longest unused is
    discarded first. 0 keeps none."""
    sounds_dir: Annotated[FilePath, AfterValidator(_check_folder)] = ""
    """Directory whose files may be played by name. Empty: only `http://` and `https://` addresses can be played."""
    fetch_timeout_s: Annotated[float, Field(ge=0.1, le=300, description="a number of seconds from 0.1 to 300")] = 10.0
    """How long fetching a sound may take."""
    max_sound_bytes: Annotated[
        int, Field(ge=1024, le=1 << 30, description="a number of bytes from 1024 to 1073741824")
    ] = 16_777_216
    """Largest file that is played."""
