"""Audio as bytes: formats, codecs, framing and playout. No sockets, no tasks, no clock."""
