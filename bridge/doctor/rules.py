"""The purpose of Asterisk's modules. Pure."""

from __future__ import annotations

from collections.abc import Collection

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
    "func_uuid": "UUID() in the dialplan, since 20.12, 21.7, 22.2",
    "codec_ulaw": "calls in G.711 u-law",
    "codec_alaw": "calls in G.711 A-law",
}
"""Modules without which a feature is missing, and their purpose."""

TIMING_PREFIX = "res_timing_"
"""The prefix of modules of which bridge_softmix needs one."""


def missing_modules(running: Collection[str], wanted: dict[str, str]) -> list[str]:
    """Return ``name (purpose)`` of each wanted module that does not run; names may end in ``.so``."""
    names = {name.removesuffix(".so") for name in running}
    return [f"{name} ({purpose})" for name, purpose in wanted.items() if name not in names]
