"""Every request of the bridge identifies its sender."""

from __future__ import annotations

from pathlib import Path

import bridge
from bridge.outbound.headers import USER_AGENT, with_user_agent

BRIDGE = Path(bridge.__file__).parent


def test_the_user_agent_names_the_version_unless_the_configuration_has_one() -> None:
    assert f"asterisk-bridge/{bridge.__version__}" == USER_AGENT
    assert with_user_agent({"X": "y"}) == {"User-Agent": USER_AGENT, "X": "y"}
    assert with_user_agent({"USER-AGENT": "let me in"}) == {"USER-AGENT": "let me in"}


def test_every_http_session_has_it() -> None:
    """Without it, aiohttp sends its own and Python's version."""
    product = [path for path in BRIDGE.rglob("*.py") if "testing" not in path.parts]
    clients = [path for path in product if "ClientSession(" in path.read_text()]
    assert len(clients) >= 5
    assert [path.name for path in clients if '"User-Agent": USER_AGENT' not in path.read_text()] == []
