"""Actions that connect the caller with several parties: conference_join, queue_join."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bridge.conferences.conferences import NoSuchConference
from bridge.flows.action_registry import ActionFailed, action, dialplan_entry
from bridge.flows.actions.sound import SwitchOption
from bridge.flows.options import OR_VARIABLE, Options

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run

ConferenceId = Annotated[str, Field(min_length=1, max_length=100, description="the id of a conference")]


class ConferenceJoinOptions(Options):
    """Options of conference_join."""

    conference_id: ConferenceId


@action("conference_join", options=ConferenceJoinOptions, needs_audio=True)
async def conference_join(run: Run, options: ConferenceJoinOptions) -> None:
    """Join a conference; return when the caller has left, was removed, or the conference ended."""
    await _join(run, options.conference_id, create=False)


class ConfbridgeJoinOptions(Options):
    """Options of confbridge_join."""

    confbridge_id: ConferenceId


@action("confbridge_join", options=ConfbridgeJoinOptions, needs_audio=True)
async def confbridge_join(run: Run, options: ConfbridgeJoinOptions) -> None:
    """Join a conference, like ``conference_join``."""
    await _join(run, options.confbridge_id, create=False)


class NamedConferenceOptions(Options):
    """Options of Voxology's conference, which is created if it does not exist."""

    name: ConferenceId
    max_participants: Annotated[int, Field(ge=0, le=10_000, description="a number from 0 to 10000"), OR_VARIABLE] = 0
    end_on_exit: SwitchOption = False
    muted: SwitchOption = False


@action("named_conference", options=NamedConferenceOptions, needs_audio=True, internal=True)
async def named_conference(run: Run, options: NamedConferenceOptions) -> None:
    """Join a conference; it ends with its last participant, or with this one (``end_on_exit``)."""
    conferences = run.services.conferences
    existing = conferences.get(options.name)
    if existing is not None and 0 < options.max_participants <= len(existing.participants):
        raise ActionFailed(f"the conference {options.name!r} is full: it has {len(existing.participants)} participants")
    try:
        await _join(run, options.name, create=True, muted=options.muted)
    finally:
        if options.end_on_exit:
            with contextlib.suppress(NoSuchConference):  # it ended with its last participant
                await conferences.delete(options.name)


async def _join(run: Run, conference_id: str, *, create: bool, muted: bool = False) -> None:
    await run.stop_playback()
    run.variables.set("voipbin.conference.id", conference_id)
    left = await run.services.conferences.join(run.leg, conference_id, create=create, muted=muted)
    run.variables.set("conference.left", left)


class QueueJoinOptions(Options):
    """Options of queue_join."""

    queue_id: Annotated[str, Field(min_length=1, max_length=80, description="the name of a queue of the PBX")]


@action("queue_join", options=QueueJoinOptions, needs=dialplan_entry)
async def queue_join(run: Run, options: QueueJoinOptions) -> None:
    """Wait in a queue of the PBX and talk to the agent; return when the queue releases the caller.

    Sets ``queue.status`` to Asterisk's ``QUEUESTATUS``: ``TIMEOUT``, ``FULL``, ``JOINEMPTY``..., empty after a
    conversation.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", options.queue_id):
        raise ActionFailed(f"queue_id: {options.queue_id[:40]!r} is not a valid queue name")
    await run.leg.answer()
    await run.stop_playback()
    run.variables.set("voipbin.queue.id", options.queue_id)
    await run.leg.visit_dialplan(f"queue-{options.queue_id}")
    run.variables.set("queue.status", await run.leg.get_variable("QUEUESTATUS"))
