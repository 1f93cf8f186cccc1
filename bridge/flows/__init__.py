"""Flows: lists of actions that run on a controlled call. One interpreter, three syntaxes.

program.py      a checked flow, and the errors of an invalid one
voipbin.py      VoIPBIN's syntax of actions;  voxology.py: Voxology's
actions/        the effect of each action: one function each
interpreter.py  runs a program on a leg
manager.py      selects the program of a call: outbound calls, incoming calls, fetched flows
"""
