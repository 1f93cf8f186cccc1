"""The section ``[privacy]``: announcements of streams and recordings to the parties of a call."""

from typing import Annotated

from pydantic import AfterValidator, Field

from bridge.config.endpoint import Switch
from bridge.config.values import Section

TONE = "tone"
SOUND = "sound:"
"""The prefix of the name of a file below ``speech.sounds_dir``."""


def _check(announcement: str) -> str:
    if announcement.startswith(SOUND) and not announcement.removeprefix(SOUND).strip():
        raise ValueError(f'has no file after "{SOUND}"; expected for example "{SOUND}notice.wav"')
    return announcement


Announcement = Annotated[
    str,
    AfterValidator(_check),
    Field(max_length=1000, description='"tone", "sound:FILE", a sentence to speak, or nothing'),
]


class PrivacyConfig(Section):
    """Announcements of streams and recordings to the parties, and the display of withheld numbers.

    Announcements are ``"tone"``, ``"sound:FILE"`` below ``speech.sounds_dir``, or a sentence to speak.
    """

    show_withheld_numbers: Switch = False
    """Whether the numbers of callers who withhold them are shown."""
    announce_streams: Announcement = ""
    """Announcement when a stream starts. Empty: none."""
    announce_recordings: Announcement = ""
    """Announcement when a recording starts. Empty: none."""

    @property
    def announcements(self) -> dict[str, str]:
        """The announcements by their keys."""
        return {"announce_streams": self.announce_streams, "announce_recordings": self.announce_recordings}
