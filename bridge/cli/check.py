"""``asterisk-bridge check``: prints the effective configuration, and what this machine lacks for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bridge.cli.toml import masked_toml
from bridge.config import Config
from bridge.config.privacy import SOUND, TONE
from bridge.config.streams import NOT_KEPT, TargetConfig
from bridge.files import writing_trouble

_LIMITS = {
    "transfer": "transfer_to",
    "extension_state": "transfer_to",
    "set_variable": "set_variables",
    "conference": "conferences",
}
"""Built-in tools of models, and the key that lists what each may do."""


def run(config: Config) -> int:
    """Print a configuration without errors to standard output, and warnings to standard error.

    Args:
        config: the effective configuration.

    Returns:
        The exit code, 0: what this machine lacks may exist where asterisk-bridge will run.
    """
    print(masked_toml(config), end="", flush=True)
    for warning in warnings(config):
        print(f"asterisk-bridge: warning: {warning}", file=sys.stderr)
    return 0


def warnings(config: Config) -> Iterator[str]:
    """Yield the settings that do not work on this machine or for this user."""
    state_file = config.streams.state_file
    trouble = None if state_file in NOT_KEPT else writing_trouble(Path(state_file))
    if trouble is not None:
        yield f"streams.state_file: {trouble}; subscriptions cannot be created over HTTP"
    yield from _missing_credentials(config)
    yield from _without_effect(config)
    spoken = [place for place, text in _announcements(config) if _is_spoken(text)]
    if not config.flows and not spoken:
        return
    from bridge.flows.flow_config import flows_of  # with all actions
    from bridge.speech.engine import Speech

    trouble = Speech(config.speech).trouble
    if trouble is None:
        return
    for place in spoken:
        yield f"{place}: speech is unavailable: {trouble}"
    for index, flow in enumerate(flows_of(config)):
        if flow.program is not None and any(action.does == "talk" for action in flow.program.actions):
            yield f"flows.{index}: speech is unavailable: {trouble}"


def _missing_credentials(config: Config) -> Iterator[str]:
    """Yield the files and environment variables with credentials that cannot be read; calls read them later."""
    files = [(each.auth_value_file, each.agent.key_file, each.agent.key_env) for _, each in _targets(config)]
    if not any(map(any, files)):
        return
    from bridge.media.dial import LinkFailed  # not needed for most configurations
    from bridge.streams.agent_session import read_key
    from bridge.streams.dialing import read_secret

    for place, target in _targets(config):
        try:
            if target.auth_value_file:
                read_secret(target.auth_value_file, "auth_value_file")
            read_key(target.agent)
        except LinkFailed as problem:
            yield f"{place}: {problem}"


def _without_effect(config: Config) -> Iterator[str]:
    """Yield settings that fail in every call because another key is missing."""
    for place, target in _targets(config):
        for tool, limit in _LIMITS.items():
            if tool in target.agent.tools and not getattr(target.agent, limit):
                yield f"{place}.agent.tools: {tool} is always refused, as {limit} is empty"
    for index, route in enumerate(config.dialplan):
        if route.twiml_url and not config.twilio.account_sid:
            yield (
                f"dialplan.{index}.twiml_url: requests are not signed, and most agents refuse them; "
                "set twilio.account_sid and twilio.auth_token"
            )


def _announcements(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the sounds and sentences for parties: the key and its value."""
    for key, text in config.privacy.announcements.items():
        yield f"privacy.{key}", text
    for place, target in _targets(config):
        agent = target.agent
        yield f"{place}.agent.reconnect_prompt", agent.reconnect_prompt
        yield f"{place}.agent.failure_prompt", agent.failure_prompt
        if "transfer" in agent.tools and agent.transfer_to and agent.transfer_mode != "blind":
            yield f"{place}.agent.transfer_prompt", agent.transfer_prompt
    for index, tool in enumerate(config.tools):
        yield f"tools.{index}.filler", tool.filler


def _targets(config: Config) -> Iterator[tuple[str, TargetConfig]]:
    """Yield the applications of routes and subscriptions, each with its place in the configuration."""
    for name, table in (("dialplan", config.dialplan), ("subscriptions", config.subscriptions)):
        for index, target in enumerate(table):
            yield f"{name}.{index}", target


def _is_spoken(announcement: str) -> bool:
    return announcement not in ("", TONE) and not announcement.startswith(SOUND)
