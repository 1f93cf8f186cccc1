"""A fake PBX whose audiohooks drop what comes of a new partner, as Debian's Asterisk 22.10.1 does in the worst case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.ari.rest import Parameter
from tests.fakes.dialing_pbx import DialingPbx

SILENCE = bytes(320)


class LatePbx(DialingPbx):
    """The snoops of a party share a list, which has only the partner that the party had when the list was begun.

    Attributes:
        foreign: parties on whose list there is something that is not a snoop: a MixMonitor of the dialplan.
    """

    def __init__(self, port: int, app: str = "app") -> None:
        super().__init__(port, app)
        self.foreign: set[str] = set()
        self._known: dict[str, str] = {}

    def talk(self, voices: Mapping[str, bytes]) -> None:
        """Send a frame on every connection, made of what parties say now; the others say nothing."""
        for channel_id, connection in self.connections.items():
            _, party, spy, _ = self._kinds[channel_id].split()
            partner = self.partner(party)
            if spy == "in":
                connection.send(0x10, voices.get(party, SILENCE))
            elif spy == "out" and self._known[party] == partner:
                connection.send(0x10, voices.get(partner, SILENCE))
            else:
                connection.send(0x10, SILENCE)

    def lose_track(self, party: str) -> None:
        """Have what a party receives be dropped from now on, though its partner is the same."""
        self._known[party] = "somebody"

    def partner(self, party: str) -> str:
        """Return the other one in the bridge of a party."""
        members = self.bridges[bridge_id]["channels"] if (bridge_id := self.bridge_of(party)) else []
        return next((each for each in members if each != party), "")

    def snoops(self, party: str) -> list[str]:
        """Return the snoop channels that a party has."""
        return [each for each in self.there if self._kinds[each].startswith(f"snoop {party} ")]

    def handle(self, method: str, path: str, params: Mapping[str, Parameter], body: Any = None) -> object:
        if path.endswith("/snoop"):
            party = path.split("/")[2]
            if not self.snoops(party) and not (party in self.foreign and party in self._known):
                self._known[party] = self.partner(party)
        return super().handle(method, path, params, body)
