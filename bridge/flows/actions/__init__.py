"""What each action does: one function in one place, registered under VoIPBIN's name for it.

A new action is one function with its options in one of these modules; Voxology's action for it, if it has one, is an
entry in `bridge.flows.voxology_actions`.
"""

from bridge.flows.actions import call, conference, control, data, keys, recording, routing, sound, streams

__all__ = ["call", "conference", "control", "data", "keys", "recording", "routing", "sound", "streams"]
