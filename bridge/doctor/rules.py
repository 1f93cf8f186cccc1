"""Facts about Asterisk: which version introduced what, and the purpose of modules. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

FEATURES: tuple[tuple[str, dict[int, int]], ...] = (
    ("DTMF on AudioSocket, orderly ends of its connections", {20: 14, 21: 9, 22: 4, 23: 0}),
    ("TCP_NODELAY on AudioSocket (without it audio is late)", {20: 15, 22: 5, 23: 0}),
    ("AudioSocket above 8 kHz (rate= must stay 8000)", {20: 17, 22: 7, 23: 1}),
    ("AudioSocket messages split inside their header (without it a leg may break)", {20: 19, 22: 9, 23: 3}),
    ("unknown AudioSocket messages are skipped (without it they end a leg)", {20: 20, 22: 10, 23: 4}),
)
"""Features, and the minor version of each branch (ChangeLogs of Asterisk, res_audiosocket and chan_audiosocket)."""

REGRESSIONS = {
    (22, 11): "calls that receive audio by a whisper may lose audio and take a whole CPU (asterisk#2134)",
}
"""Open bugs of versions that lack none of `FEATURES`, as reported; none of these versions was tried."""

NEEDED_MODULES = {
    "res_ari": "ARI",
    "res_ari_applications": "ARI",
    "res_ari_asterisk": "ARI",
    "res_ari_bridges": "ARI",
    "res_ari_channels": "ARI",
    "res_ari_events": "ARI's events",
    "res_http_websocket": "ARI's events",
    "res_stasis": "ARI",
    "res_stasis_snoop": "streams on calls outside the Stasis application",
    "res_audiosocket": "audio",
    "chan_audiosocket": "audio",
    "bridge_softmix": "mixing audio",
    "func_channel": "detecting which channels belong to one call",
}
"""Modules that streams require, and their purpose."""

OPTIONAL_MODULES = {
    "app_stasis": "sending calls from the dialplan into the Stasis application",
    "app_audiosocket": "AudioSocket() in the dialplan",
    "bridge_simple": "mixing two channels at little cost",
    "codec_resample": "sampling rates other than the call's",
    "func_dialplan": "reading which dialplan entries exist",
    "codec_ulaw": "calls in G.711 u-law",
    "codec_alaw": "calls in G.711 A-law",
}
"""Modules without which a feature is missing, and their purpose."""

TIMING_PREFIX = "res_timing_"
"""The prefix of modules of which bridge_softmix needs one."""


def parse_version(text: str) -> tuple[int, int] | None:
    """Parse major and minor of a version like ``22.10.1+dfsg-1`` or ``certified/20.7-cert3``; None if there is none."""
    found = re.search(r"(?<!\d)(\d{1,3})\.(\d{1,3})(?!\d)", text)
    return (int(found[1]), int(found[2])) if found else None


def lacks(version: tuple[int, int]) -> list[str]:
    """Return the `FEATURES` that a version lacks."""
    major, minor = version
    newest = max(branch for _, since in FEATURES for branch in since)
    if major > newest:
        return []
    return [feature for feature, since in FEATURES if minor < since.get(major, 1000)]


def missing_modules(running: Collection[str], wanted: dict[str, str]) -> list[str]:
    """Return ``name (purpose)`` of each wanted module that does not run; names may end in ``.so``."""
    names = {name.removesuffix(".so") for name in running}
    return [f"{name} ({purpose})" for name, purpose in wanted.items() if name not in names]
