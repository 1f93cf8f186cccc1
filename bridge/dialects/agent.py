"""What a model that answers a call is configured with, the same for every vendor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec


class ToolSpec(msgspec.Struct, frozen=True):
    """A function that the model may call.

    Args:
        name: letters, digits, ``_`` and ``-``.
        description: when and how to use it, for the model.
        parameters: JSON schema of the arguments, an object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The settings of one conversation with a model; empty ones leave the decision to the vendor.

    Args:
        instructions: the system prompt.
        voice: the vendor's name of the voice.
        language: of the conversation, as in BCP 47, for example ``de``.
        model: the vendor's name of the model.
        greeting: the model's first words; empty: it waits for the caller.
        tools: functions that the model may call.
        parameters: further settings of the vendor, merged into its first message.
        key: the credential, read again for each connection.
        key_header: header of the handshake with ``{key}``, for example ``api-key: {key}``; empty: the vendor's.
    """

    instructions: str = ""
    voice: str = ""
    language: str = ""
    model: str = ""
    greeting: str = ""
    tools: Sequence[ToolSpec] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    key: str = field(default="", repr=False)
    key_header: str = ""
