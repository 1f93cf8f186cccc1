"""Parameters of the user, which become part of a model's first message whatever their names."""

from __future__ import annotations

import pytest

from bridge import dialects
from bridge.dialects.agent import AgentSettings
from bridge.dialects.base import CallInfo, Send
from bridge.dialects.model import ModelDialect

HELLO = {"deepgram_agent": '{"type":"Welcome"}', "openai_realtime": '{"type":"session.created"}'}
"""What servers send before the client does."""
MODELS = [name for name, kind in dialects.known().items() if issubclass(kind, ModelDialect)]


@pytest.mark.parametrize("name", MODELS)
def test_parameters_may_have_any_name(name: str) -> None:
    kind = dialects.find(name)
    assert issubclass(kind, ModelDialect)
    dialect = kind(AgentSettings(parameters={"kind": "of the user"}), connect=True)  # type: ignore[call-arg]
    first = list(dialect.opened(CallInfo("call"), ["caller"], 0.0, 0.0))
    if name in HELLO:
        first += [command.message for command in dialect.receive(HELLO[name]) if isinstance(command, Send)]
    (message,) = first
    assert '"kind":"of the user"' in str(message)
