"""The effect of each action: one function in one place, registered under VoIPBIN's name.

A new action is one function with its options in one of these modules; its Voxology counterpart, if any, is an entry in
`bridge.flows.voxology_actions`.
"""

from bridge.flows.actions import (
    call,
    conference,
    control,
    data,
    dtmf,
    model,
    recording,
    routing,
    sound,
    streams,
    twiml,
)

__all__ = [
    "call",
    "conference",
    "control",
    "data",
    "dtmf",
    "model",
    "recording",
    "routing",
    "sound",
    "streams",
    "twiml",
]
