"""Callers with restricted presentation: their numbers are hidden, also as others' connected number. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from bridge.ari.model import Channel, is_withheld
from bridge.calls.call import Party, is_dialed, is_party


class RestrictedNumbers:
    """Currently withheld numbers.

    Args:
        active: hide them; False: every number is shown.
    """

    def __init__(self, active: bool) -> None:
        self.undisclosed: set[str] = set()
        """Channels of callers with unknown presentation; they do not belong to a call until it is known."""
        self._numbers: dict[str, str] = {}
        self._active = active

    @property
    def numbers(self) -> Collection[str]:
        """The numbers."""
        return self._numbers.values()

    def asks(self, channel: Channel, *, created: bool = False) -> bool:
        """Return whether a channel is a caller with unknown presentation.

        Args:
            channel: its state.
            created: the state is that of its creation, in which every number may be visible (chan_pjsip of 22.10).
        """
        known = is_withheld(channel.presentation) if created else channel.presentation is not None
        calls = is_party(channel) and not is_dialed(channel) and not channel.name.startswith("Local/")
        return self._active and calls and channel.caller.number != "" and not known

    def note(self, party: Party, channel: Channel) -> None:
        """Apply a channel's presentation to its party, before `Party.see`."""
        if self._active and is_withheld(channel.presentation):
            party.withheld = True
            if channel.caller.number:
                self._numbers[party.id] = channel.caller.number
            party.withhold(self.numbers)

    def learn(self, channel_id: str, presentation: str, parties: Iterable[Party]) -> None:
        """Apply Asterisk's response about a caller.

        Args:
            channel_id: of the caller.
            presentation: Asterisk's value; empty if unknown.
            parties: all of the PBX.
        """
        self.undisclosed.discard(channel_id)
        everybody = list(parties)
        party = next((each for each in everybody if each.id == channel_id), None)
        if party is None or not is_withheld(presentation):
            return
        self._numbers[channel_id] = party.caller_number
        party.withheld = True
        for each in everybody:
            each.withhold(self.numbers)

    def forget(self, channel_id: str) -> None:
        """Remove a channel that has ended."""
        self.undisclosed.discard(channel_id)
        self._numbers.pop(channel_id, None)
