"""Who calls and who is called, as the API and flows write it. Pure.

    {"type": "tel", "target": "+49301234567", "target_name": "Alice"}

The keys are those of the API; an empty type is a number of unknown kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

AddressType = Literal["", "tel", "sip", "extension", "conference"]
ADDRESS_TYPES: tuple[AddressType, ...] = get_args(AddressType)


@dataclass(frozen=True, slots=True)
class Address:
    """One end of a call.

    Args:
        type: ``tel`` is a number outside, ``sip`` a SIP URI, ``extension`` a phone of this PBX, ``conference`` a room;
            empty where it is not known.
        target: the number, URI, extension or conference id.
        target_name: the name that goes with it: what a called phone shows.
        name: what the application calls it; kept and told, used for nothing.
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


def address_json(address: Address) -> Mapping[str, str]:
    """As the API writes it: all five keys."""
    return {
        "type": address.type,
        "target": address.target,
        "target_name": address.target_name,
        "name": address.name,
        "detail": address.detail,
    }
