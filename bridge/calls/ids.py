"""Ids of what the bridge makes on the PBX: chosen by us before each act, and how we know our own again.

    ab-{app}-{boot}-{kind}-{n}     for example ab-bridge-5f0c21aa-snoop-00000017

A Local channel that we make has two halves: the second one's id is that of the first with ``;2`` behind it.

``boot`` is new in each life of the process, so objects of an earlier life can be told from those of this one. ``n`` has
leading zeros because no id may be the beginning of another: Asterisk refuses to create ``x-1`` while ``x-17`` exists
(409 from originate, a bare 500 from snoop and external media; seen on 22.10.1).
"""

from __future__ import annotations

import itertools
import secrets


class OwnIds:
    """Makes ids and recognizes them.

    Args:
        app: name of the Stasis application: letters, digits and underscores, so that one name's prefix is never
            the beginning of another's.
    """

    def __init__(self, app: str) -> None:
        self.app = app
        self.prefix = f"ab-{app}-"
        self._boot = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def new(self, kind: str) -> str:
        """A new id for a channel, bridge, playback or recording.

        Args:
            kind: ``snoop``, ``media`` (channels that carry audio), ``call`` (calls that we place), ``mix``, ``hold``,
                ``conf`` (bridges), ``play``, ``rec``.
        """
        return f"{self.prefix}{self._boot}-{kind}-{next(self._numbers):08d}"

    def kind(self, object_id: str) -> str:
        """Return the kind that `new` got; "": it is none of this application's."""
        _, _, rest = object_id.removeprefix(self.prefix).partition("-") if self.ours(object_id) else ("", "", "")
        return rest.partition("-")[0]

    def ours(self, object_id: str) -> bool:
        """Whether a channel or bridge was made by this application, in this life or an earlier one."""
        return object_id.startswith(self.prefix)
