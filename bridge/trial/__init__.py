"""``asterisk-bridge try``: a scripted caller talks with an application without a PBX, and judges its behavior."""

from typing import Literal, get_args

CheckName = Literal["connect", "answer", "interruption", "dtmf", "rate", "messages", "hangup"]
CHECKS: tuple[CheckName, ...] = get_args(CheckName)
"""All checks, in the order of the report."""
