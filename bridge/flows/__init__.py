"""Flows: lists of actions that the bridge runs on a call it controls. One interpreter, two syntaxes.

program.py      what a checked flow is; how a wrong one is refused
voipbin.py      actions as VoIPBIN writes them;  voxology.py: as Voxology does
actions/        what each action does: one function each
interpreter.py  runs a program on a leg
manager.py      which call runs which program: outbound calls, incoming calls, fetched flows
"""
