"""Addresses of callers and called parties, as in the API and flows. Pure.

    {"type": "tel", "target": "+49301234567", "target_name": "Alice"}

The keys are those of the API; an empty type is a number of unknown kind.
"""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct

AddressType = Literal["", "tel", "sip", "extension", "conference"]
ADDRESS_TYPES: tuple[AddressType, ...] = get_args(AddressType)


class Address(Struct, frozen=True):
    """One side of a call.

    Args:
        type: ``tel`` is a number outside, ``sip`` a SIP URI, ``extension`` a phone of this PBX, ``conference`` a room;
            empty if unknown.
        target: the number, URI, extension or conference id.
        target_name: the caller name that a called phone shows.
        name: the application's name for it; stored and returned only.
        detail: likewise.
    """

    type: AddressType = ""
    target: str = ""
    target_name: str = ""
    name: str = ""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.type or 'number'} {self.target}"


NOBODY = Address()
