"""The section ``[privacy]``: announcements of streams and recordings to the parties of a call."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from bridge.config.values import Section

TONE = "tone"
SOUND = "sound:"
"""What begins the name of a file below ``speech.sounds_dir``."""


def _check(announcement: str) -> str:
    if announcement.startswith(SOUND) and not announcement.removeprefix(SOUND).strip():
        raise ValueError(f'names no file after "{SOUND}"; expected for example "{SOUND}notice.wav"')
    return announcement


Announcement = Annotated[
    str,
    AfterValidator(_check),
    Field(max_length=1000, description='"tone", "sound:FILE", a text to speak, or nothing'),
]


class PrivacyConfig(Section):
    """Announcements to the parties of a call: ``"tone"``, ``"sound:FILE"`` below ``speech.sounds_dir``, or a text."""

    announce_streams: Announcement = ""
    """Played to all parties of a call when a stream of it starts; empty: nothing."""
    announce_recordings: Announcement = ""
    """The same when a recording of it starts."""
