"""Validate what asterisk-bridge has sent to a model with the types of the vendor's SDK.

    python -m tests.agents.validate NAME < messages      one JSON message a line

It fails at the first message that is invalid, or has a field that the SDK does not know.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import deepgram.agent.v1 as deepgram
import pydantic
from elevenlabs.conversational_ai import conversation as elevenlabs
from elevenlabs.types import ConversationInitiationClientDataRequestInput
from google.genai import types as gemini
from openai.types.realtime import RealtimeClientEvent

DEEPGRAM = {
    "Settings": deepgram.AgentV1Settings,
    "FunctionCallResponse": deepgram.AgentV1SendFunctionCallResponse,
    "InjectUserMessage": deepgram.AgentV1InjectUserMessage,
    "KeepAlive": deepgram.AgentV1KeepAlive,
}


def nothing_unknown(value: Any, where: str = "message") -> None:
    """Fail if a field, at any depth, is not one of its type."""
    if isinstance(value, pydantic.BaseModel):
        assert not value.model_extra, f"{where} has unknown fields: {value.model_extra}"
        for name in type(value).model_fields:
            nothing_unknown(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list):
        for each in value:
            nothing_unknown(each, where)


def of_deepgram(message: Mapping[str, Any]) -> None:
    """Validate a message to the Voice Agent."""
    nothing_unknown(DEEPGRAM[message["type"]].model_validate(message))


def of_elevenlabs(message: Mapping[str, Any]) -> None:
    """Validate a message to an agent: the SDK has a type for the first, and writes the others itself."""
    kind = message.get("type", "audio")
    if kind == "conversation_initiation_client_data":
        body = {name: value for name, value in message.items() if name != "type"}
        nothing_unknown(ConversationInitiationClientDataRequestInput.model_validate(body))
        return
    text = elevenlabs.UserMessageClientToOrchestratorEvent(text=message.get("text")).to_dict()
    written: dict[str, Mapping[str, Any]] = {
        "audio": {"user_audio_chunk": message.get("user_audio_chunk")},
        "pong": {"type": "pong", "event_id": message.get("event_id")},
        "user_message": {**text, "type": text["type"].value},
        "client_tool_result": {
            "type": "client_tool_result",
            "tool_call_id": message.get("tool_call_id"),
            "result": message.get("result"),
            "is_error": False,
        },
    }
    assert message == written[kind], message


def of_gemini(message: Mapping[str, Any]) -> None:
    """Validate a message to the Live API."""
    nothing_unknown(gemini.LiveClientMessage.model_validate(message))


def of_openai(message: Mapping[str, Any]) -> None:
    """Validate a client event of the Realtime API."""
    nothing_unknown(pydantic.TypeAdapter(RealtimeClientEvent).validate_python(message))


VALIDATORS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "deepgram_agent": of_deepgram,
    "elevenlabs": of_elevenlabs,
    "gemini_live": of_gemini,
    "openai_realtime": of_openai,
}

if __name__ == "__main__":
    for line in sys.stdin:
        VALIDATORS[sys.argv[1]](json.loads(line))
        print(f"valid: {line[:200].strip()}")
