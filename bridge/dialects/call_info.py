"""Facts about a call and its parties that a dialect may send."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bridge.templates import fill


class CallInfo(msgspec.Struct, frozen=True):
    """Facts about the call that a dialect may send.

    Args:
        call_id: the linkedid.
        direction: ``inbound`` (from a trunk), ``outbound`` (to a trunk) or ``internal``.
        caller: the caller's number.
        callee: the called number.
        did: the number that was dialed from outside, for inbound calls.
        variables: channel variables that the configuration allows; values come from the dialplan or the caller.
    """

    call_id: str
    direction: str = "internal"
    caller: str = ""
    callee: str = ""
    did: str = ""
    variables: Mapping[str, str] = {}

    @property
    def facts(self) -> dict[str, str]:
        """All values that templates may use (`bridge.templates`), unknown ones as empty strings."""
        return {
            **self.variables,
            "call_id": self.call_id,
            "caller": self.caller,
            "callee": self.callee,
            "did": self.did,
            "direction": self.direction,
        }

    @property
    def parameters(self) -> dict[str, str]:
        """The known facts under the names that frameworks read, for formats with parameters of the user's choice."""
        facts = {
            "from_number": self.caller,
            "to_number": self.callee,
            "did": self.did,
            "direction": self.direction,
            "call_id": self.call_id,
        }
        return {name: value for name, value in {**facts, **self.variables, **facts}.items() if value}

    def filled(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Return parameters of the user's choice with the values of their templates."""
        facts = self.facts
        return {name: fill(value, facts) for name, value in parameters.items()}


class TrackInfo(msgspec.Struct, frozen=True):
    """Facts about one track that a dialect may send.

    Args:
        name: the track's name, unique among the running tracks of the stream.
        channel_id: the id of the party's channel.
        channel: the name of that channel, for example ``PJSIP/1001-0000002a``.
        number: the party's own number: its extension, or the outside number on a trunk.
        near_number: the number on the PBX's side of this party: the DID or the caller ID.
        far_number: the number of the remote party.
        callflow: the party's current scenario: ``ivr``, ``queue``, ``ringgroup``, ``conference``, ``multicast_paging``,
            ``cfd`` or empty.
    """

    name: str
    channel_id: str = ""
    channel: str = ""
    number: str = ""
    near_number: str = ""
    far_number: str = ""
    callflow: str = ""
