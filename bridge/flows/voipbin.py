"""Actions in VoIPBIN's syntax: ``[{"id", "next_id", "type", "option"}, ...]`` (its public bin-flow-manager)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.flows import actions as _actions  # noqa: F401  (registers them)
from bridge.flows.action_registry import DEFINITIONS
from bridge.flows.checking import MAX_ID_CHARACTERS, Checking, is_set, listed, unknown_type
from bridge.flows.program import Action, InvalidFlow, Program, new_action_id, program
from bridge.flows.schemas import schema_of
from bridge.validation import suggestion

KEYS = ("id", "next_id", "type", "option", "tm_execute")
NO_SPEECH_RECOGNITION = "speech recognition is not supported. Send the audio to an application (external_media_start)"
NO_MESSAGES = "messages are not supported. Notify your own server (webhook_send)"
NO_AI = "connect a voice application (external_media_start with a dialect that is two-way)"
HINTS = {
    "transcribe_start": NO_SPEECH_RECOGNITION,
    "transcribe_stop": NO_SPEECH_RECOGNITION,
    "transcribe_recording": NO_SPEECH_RECOGNITION,
    "ai_summary": NO_AI,
    "ai_task": NO_AI,
    "chatbot_talk": "Use ai_talk",
    "agent_call": "agents are not supported. Use connect with the agent's extension",
    "conversation_send": NO_MESSAGES,
    "message_send": NO_MESSAGES,
    "email_send": NO_MESSAGES,
    "block": "a flow cannot wait for a request. Use sleep",
}


def parse(flow: Any, path: str = "actions") -> Program:
    """Check a flow.

    Args:
        flow: the list of actions, or an object with it under ``actions``; JSON.
        path: name of the list in errors.

    Returns:
        The program.

    Raises:
        InvalidFlow: the flow is invalid; lists every error.
    """
    given = listed(flow, path)
    checking = Checking(path)
    found = [action for index, each in enumerate(given) if (action := _action(checking, index, each)) is not None]
    seen: dict[str, int] = {}
    for action in found:
        if action.id in seen:
            checking.wrong(action.index, "id", f"duplicates the id of {path}[{seen[action.id]}]")
        seen.setdefault(action.id, action.index)
    if len(found) == len(given):  # a faulty action may be the target
        checking.targets(found, "option")
    checking.done()
    return program(found, "voipbin", given)


def _action(checking: Checking, index: int, given: Any) -> Action | None:
    if not isinstance(given, Mapping):
        checking.wrong(index, "", 'expected an object with "type" and "option"')
        return None
    if not checking.bounded(index, "", given):
        return None
    fine = True
    for key in given:
        if key not in KEYS:
            checking.wrong(index, str(key)[:60], "unknown key" + suggestion(str(key), KEYS))
            fine = False
    for key in ("id", "next_id"):
        value = given.get(key)
        if value is not None and (not isinstance(value, str) or len(value) > MAX_ID_CHARACTERS):
            checking.wrong(index, key, f"expected a string of at most {MAX_ID_CHARACTERS} characters")
            fine = False
    kind = given.get("type")
    if not isinstance(kind, str):
        checking.wrong(index, "type", "expected the name of an action")
        return None
    definition = DEFINITIONS.get(kind)
    if definition is None or definition.internal:
        known = [name for name, each in DEFINITIONS.items() if not each.internal]
        checking.wrong(index, "type", unknown_type(kind, known, HINTS))
        return None
    options = checking.options(index, "option", definition.options, given.get("option"))
    if options is None or not fine:
        return None
    action_id, next_id = given.get("id"), given.get("next_id")
    return Action(
        id=str(action_id) if is_set(action_id) else new_action_id(),
        type=kind,
        index=index,
        does=kind,
        options=options,
        next_id=str(next_id) if is_set(next_id) else "",
    )


def schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of one action: ``oneOf`` with ``type`` as discriminator, without ``$ref``."""
    return {
        "oneOf": [
            {
                "type": "object",
                "title": name,
                "properties": {
                    "id": {"type": "string"},
                    "next_id": {"type": "string"},
                    "type": {"const": name},
                    "option": schema_of(each.options),
                    "tm_execute": {"type": ["string", "null"]},
                },
                "required": ["type", *(["option"] if _needs_option(each.options) else [])],
                "additionalProperties": False,
            }
            for name, each in sorted(DEFINITIONS.items())
            if not each.internal
        ]
    }


def _needs_option(model: Any) -> bool:
    return any(info.is_required() for info in model.model_fields.values())


__all__ = ["InvalidFlow", "parse", "schema"]
