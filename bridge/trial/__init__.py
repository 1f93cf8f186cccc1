"""``asterisk-bridge try``: a scripted caller talks with an application without a PBX, and judges its behavior."""
