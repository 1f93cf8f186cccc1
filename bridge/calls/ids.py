"""Ids of objects that asterisk-bridge creates on the PBX: chosen before each request, and recognized afterwards.

    ab-{app}-{boot}-{kind}-{n}     for example ab-bridge-5f0c21aa-snoop-00000017

A Local channel has two halves: the second one's id is that of the first with ``;2`` appended.

``boot`` differs in each run of the process, which distinguishes objects of previous runs. ``n`` has leading zeros
because no id may be a prefix of another: Asterisk refuses to create ``x-1`` while ``x-17`` exists (409 from originate,
a bare 500 from snoop and external media; seen on 22.10.1).
"""

from __future__ import annotations

import itertools
import secrets


class OwnIds:
    """Generates and recognizes ids.

    Args:
        app: name of the Stasis application: letters, digits and underscores, so one name's prefix is never a prefix of
            another's.
    """

    def __init__(self, app: str) -> None:
        self.app = app
        self.prefix = f"ab-{app}-"
        self._boot = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def new(self, kind: str) -> str:
        """Return a new id for a channel, bridge, playback or recording.

        Args:
            kind: ``snoop``, ``media`` (channels that carry audio), ``call`` (originated calls), ``mix``, ``hold``,
                ``conf`` (bridges), ``play``, ``rec``.
        """
        return f"{self.prefix}{self._boot}-{kind}-{next(self._numbers):08d}"

    def kind(self, object_id: str) -> str:
        """Return the kind passed to `new`; empty for an id of others."""
        _, _, rest = object_id.removeprefix(self.prefix).partition("-") if self.ours(object_id) else ("", "", "")
        return rest.partition("-")[0]

    def ours(self, object_id: str) -> bool:
        """Return whether a channel or bridge was created by this application, in this run or a previous one."""
        return object_id.startswith(self.prefix)
