"""Facts about versions of Asterisk: which one introduced what, and which have which bug. Pure.

From the ChangeLogs and sources of Asterisk (res_audiosocket, chan_audiosocket, res_stasis). A build may differ:
distributions and certified releases backport patches. So test for a feature that a version lacks, where that is
possible.
"""

from __future__ import annotations

import re

from msgspec import Struct

Version = tuple[int, int]
"""Major and minor."""


class Feature(Struct, frozen=True):
    """Something that asterisk-bridge uses.

    Args:
        name: the feature, and what its absence causes.
        since: the first minor version of each branch that has it.
    """

    name: str
    since: dict[int, int]

    def is_in(self, version: Version | None) -> bool:
        """Return whether a version has it; an unknown version does not."""
        if version is None:
            return False
        major, minor = version
        return major > max(self.since) or minor >= self.since.get(major, 1000)


class Bug(Struct, frozen=True):
    """A bug that costs audio.

    Args:
        name: its effect.
        versions: the first minor version of each branch that has it, and the first that does not; None: not fixed.
    """

    name: str
    versions: dict[int, tuple[int, int | None]]

    def is_in(self, version: Version) -> bool:
        """Return whether a version has it."""
        first, fixed = self.versions.get(version[0], (1000, None))
        return first <= version[1] and (fixed is None or version[1] < fixed)


WIDE_AUDIO = Feature("AudioSocket above 8 kHz", {20: 17, 21: 12, 22: 7, 23: 1})
ENDED_APPLICATIONS = Feature(
    "applications end with their connection (without it a reconnect takes 1 s longer)",
    {20: 14, 21: 9, 22: 4, 23: 0},
)

FEATURES = (
    Feature("DTMF on AudioSocket, orderly ends of its connections", {20: 14, 21: 9, 22: 4, 23: 0}),
    ENDED_APPLICATIONS,
    Feature("TCP_NODELAY on AudioSocket (without it audio may be late over a network)", {20: 15, 21: 10, 22: 5, 23: 0}),
    Feature("AudioSocket messages split inside their header (without it a leg may break)", {20: 19, 22: 9, 23: 3}),
    Feature("unknown AudioSocket messages from Asterisk are skipped (without it legs end)", {20: 20, 22: 10, 23: 4}),
)
"""What asterisk-bridge uses, besides `WIDE_AUDIO`."""

BUGS = (
    Bug(
        "some legs break while they are opened, and are opened again",
        {20: (14, 17), 21: (9, None), 22: (4, 7), 23: (0, 1)},
    ),
    Bug("calls that receive audio by a whisper may lose audio and take a whole CPU (asterisk#2134)", {22: (11, 12)}),
)
"""The last one as reported: none of its versions was tried."""


def parse_version(text: str) -> Version | None:
    """Parse major and minor of a version like ``22.10.1+dfsg-1`` or ``certified/20.7-cert3``; None if there is none."""
    found = re.search(r"(?<!\d)(\d{1,3})\.(\d{1,3})(?!\d)", text)
    return (int(found[1]), int(found[2])) if found else None


def lacks(version: Version) -> list[str]:
    """Return the names of the `FEATURES` that a version lacks."""
    return [feature.name for feature in FEATURES if not feature.is_in(version)]


def bugs_of(version: Version) -> list[str]:
    """Return the names of the `BUGS` of a version."""
    return [bug.name for bug in BUGS if bug.is_in(version)]
