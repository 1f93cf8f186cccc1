"""The section of speech and sounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from bridge.config.values import Section, Text, as_tuple

ESPEAK = ("espeak-ng", "--stdout", "--stdin", "-b", "1", "-v", "{voice}")


class SpeechConfig(Section):
    """What speaks, and which sounds may be played."""

    command: Annotated[
        tuple[Text, ...],
        BeforeValidator(as_tuple),
        Field(description='a list of texts, for example ["espeak-ng", "--stdout"]'),
    ] = ESPEAK
