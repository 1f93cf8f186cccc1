"""What started a stream, and for whom."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.access import Principal


@dataclass(frozen=True, slots=True)
class Origin:
    """Why there is a stream, for logs, lists, events and the audit log.

    Args:
        started_by: ``client``, ``subscription:ID``, ``dialplan:ID``, ``flow:ACTION``.
        principal: who caused it.
        party_id: the channel whose audio a client asked for.
        conference_id: the conference whose audio a client asked for.
        direction_listen: what of the party or conference the client asked for.
        speaks: the application's audio is played.
        application: the URL that was dialed, without secrets.
        subscription_id: the subscription that wants it.
    """

    started_by: str
    principal: Principal
    party_id: str = ""
    conference_id: str = ""
    direction_listen: str = ""
    speaks: bool = False
    application: str = ""
    subscription_id: str = ""
