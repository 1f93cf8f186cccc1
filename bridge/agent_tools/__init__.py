"""Tools that a model on a call may use: they act on the call, or send a signed request to the user's server.

tool.py         a tool, its failures, and the call that it acts on
voice.py        the stream between a model and its caller
built_in.py     hang_up, send_dtmf, hold, set_variable, extension_state, conference
transfer.py     transfer, blind or after asking the colleague
http_tool.py    the user's own tools
filler.py       what the caller hears while such a tool takes long
running.py      the tools of one stream: checks arguments, runs them in the background, reports what they did
toolbox.py      all tools of the configuration

A model is not trusted, since its caller may talk it into anything: only what the configuration allows is done.
"""
