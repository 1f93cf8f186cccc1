"""Checks which dialplan entries exist before a caller needs a missing one."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.ari.client import AriClient
from bridge.config import Config
from bridge.doctor.report import Report
from bridge.errors import AriError, ConfigError

NAME = "dialplan"

ENTRIES = {
    "audiosocket": "taps with one channel",
    "room-NAME": "streams and flows in ConfBridge rooms",
    "queue-NAME": "the action queue_join",
    "amd": "the action amd",
    "back": "the return from room-, queue- and amd",
    "conference-ID": "phones that dial into conferences",
}
"""Entries in ``calling.context``, and what uses each (docs/howto/dialplan-entries.md)."""
USED_BY = {"queue_join": ("queue-NAME", "back"), "amd": ("amd", "back")}
"""Entries without which an action ends the call."""


async def missing_entries(client: AriClient, channel_id: str, context: str) -> list[str]:
    """Return the entries that a context lacks.

    Args:
        client: the ARI client.
        channel_id: any channel: Asterisk evaluates dialplan functions only on a channel.
        context: ``calling.context``.

    Raises:
        AriError: Asterisk returned an error.
    """
    missing = []
    for entry in ENTRIES:
        extension = entry.replace("NAME", "doctor").replace("ID", "doctor")
        function = f"DIALPLAN_EXISTS({context},{extension},1)"
        if (await client.channels.get_variable(channel_id, function)).strip() != "1":
            missing.append(entry)
    return missing


async def check(report: Report, config: Config, client: AriClient, channel_id: str) -> None:
    """Check the entries on a channel that exists."""
    context = config.calling.context
    if not context:
        report.ok(NAME, "none: calling.context is empty")
        return
    try:
        missing = await missing_entries(client, channel_id, context)
    except AriError as error:
        report.warn(
            NAME, f"its entries cannot be read: {error.message}", "check that the module func_dialplan is loaded"
        )
        return
    if not missing:
        report.ok(NAME, f"the {len(ENTRIES)} entries exist in context {context!r}")
        return
    needed = [entry for entry in missing if entry in _needed(config)]
    text = f"context {context!r} lacks " + ", ".join(f"{entry} ({ENTRIES[entry]})" for entry in missing)
    advice = "docs/howto/dialplan-entries.md has the lines for extensions.conf; then: asterisk -rx 'dialplan reload'"
    if needed:
        report.fail(NAME, f"{text}; configured flows use {', '.join(needed)}", advice)
    else:
        report.warn(NAME, text, advice + "; unless you do not use them")


def _needed(config: Config) -> set[str]:
    """Return the entries that configured flows use."""
    return {entry for action in _actions(config) for entry in USED_BY.get(action, ())}


def _actions(config: Config) -> Iterable[str]:
    from bridge.flows.flow_config import flows_of  # loads all actions

    try:
        flows = flows_of(config)
    except ConfigError:
        return ()  # `check` reports what is wrong with them
    return [action.does for flow in flows if flow.program is not None for action in flow.program.actions]
