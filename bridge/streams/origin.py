"""The origin of a stream: what started it, and for which principal."""

from __future__ import annotations

from msgspec import Struct

from bridge.access import Principal


class Origin(Struct, frozen=True):
    """The origin of a stream, for logs, lists, events and the audit log.

    Args:
        started_by: ``client``, ``subscription:ID``, ``dialplan:ID``, ``flow:ACTION``.
        principal: who caused it.
        party_id: the channel that a client requested.
        conference_id: the conference that a client requested.
        direction_listen: the direction of the audio that the client requested.
        plays: the application's audio is played.
        application: the URL that asterisk-bridge connects to, without secrets.
        subscription_id: the subscription that started it.
    """

    started_by: str
    principal: Principal
    party_id: str = ""
    conference_id: str = ""
    direction_listen: str = ""
    plays: bool = False
    application: str = ""
    subscription_id: str = ""
