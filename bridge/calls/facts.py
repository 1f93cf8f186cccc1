"""Facts derived from a call's current state: extensions and trunks, numbers, direction, DID, and each party's callflow.

Pure and stateless; history that facts need (where a party entered, who dialed it) is in ``Party`` and ``Call``. One
party's facts depend on the other parties of its call (an agent is in the queue scenario because of the caller), so any
change in a call invalidates all its facts.

Sources: ``rest-api/api-docs`` of 22.10, the recordings in ``tests/wire/ari``, and for FreePBX the context names of its
dialplan generator (16 and 17).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

from bridge.calls.call import OUTGOING_APPS, Call, Party
from bridge.config import PbxConfig
from bridge.patterns import Patterns

Role = Literal["extension", "trunk", "other"]
PbxDirection = Literal["inbound", "outbound", "internal"]

IVR = "ivr"
QUEUE = "queue"
RINGGROUP = "ringgroup"
CONFERENCE = "conference"
PAGING = "multicast_paging"
CFD = "cfd"

_DEFAULT_EXTENSIONS = Patterns(("[0-9][0-9]*",))
_DIAL_APPS = frozenset({"dial", "retrydial"})
_CALLING_APPS = _DIAL_APPS | {"queue", "page"}
_CONFERENCE_APPS = frozenset({"confbridge", "meetme"})
_NOT_IN_A_MENU = frozenset({"voicemail", "voicemailmain", "stasis", "audiosocket", "followme", "park"})
"""Applications that have taken the caller out of an IVR although the dialplan is still in its context."""
_NO_NUMBER = frozenset({"", "s", "h", "i", "t", "T", "o", "a", "e", "fax"})
"""Extensions of the dialplan that nobody dials."""
_TARGET = re.compile(r"(?P<tech>[^/]+)/(?P<rest>.*)")


class PartyFacts(Struct, frozen=True):
    """Facts about one party.

    Args:
        role: ``other`` for halves of Local channels, and endpoints that the configuration assigns to neither role.
        endpoint: ``1001`` of ``PJSIP/1001-0000002a``.
        number: its own number: the extension, or the outside number on a trunk.
        did: the dialed number of the PBX, if it came in by a trunk.
        callflow: its scenario: ``ivr``, ``queue``, ``ringgroup``, ``conference``, ``multicast_paging``, ``cfd`` or
            empty.
    """

    role: Role
    endpoint: str
    number: str
    did: str = ""
    callflow: str = ""


class CallFacts(Struct, frozen=True):
    """Facts about a whole call.

    Args:
        direction: ``inbound``: it began on a trunk; ``outbound``: a trunk was dialed in it, or asterisk-bridge
            originated it and it has no other party; otherwise ``internal``.
        caller: number of the party that began it, also after that has left.
        callee: number of the called party: the first present one that has answered; before the answer the only ringing
            one, unless it is a queue or group; afterwards the last one; otherwise the dialed number.
        did: the DID by which it came in.
        extensions: endpoints and numbers of participating extensions: the caller, and those that have answered.
        trunks: endpoints of participating trunks.
        dids: every DID in it; several only after calls merged.
        callflow: of the caller, or of the first present party.
        ringing_extensions: extensions that ring and have not answered.
        ringing_trunks: the same of trunks.
    """

    direction: PbxDirection = "internal"
    caller: str = ""
    callee: str = ""
    did: str = ""
    extensions: frozenset[str] = frozenset()
    trunks: frozenset[str] = frozenset()
    dids: frozenset[str] = frozenset()
    callflow: str = ""
    ringing_extensions: frozenset[str] = frozenset()
    ringing_trunks: frozenset[str] = frozenset()


def role_of(naming: PbxConfig, endpoint: str, context: str = "") -> Role:
    """Return the role of an endpoint whose channels begin in ``context``."""
    if _matches(endpoint, naming.trunks):
        return "trunk"
    if _matches(endpoint, naming.extensions):
        return "extension"
    if _matches(context, naming.trunk_contexts):
        return "trunk"
    if naming.trunks and naming.extensions:
        return "other"
    if naming.trunks:
        return "extension"
    if naming.extensions:
        return "trunk"
    return "extension" if _matches(endpoint, _DEFAULT_EXTENSIONS) else "trunk"


def real_parties(call: Call) -> list[Party]:
    """Return the parties with audio of their own: halves of Local channels only if there are no others."""
    return [party for party in call.parties.values() if not party.is_local] or list(call.parties.values())


def party_facts(call: Call, party: Party, naming: PbxConfig) -> PartyFacts:
    """Return the current facts of one party of a call."""
    role = _role(party, naming)
    return PartyFacts(
        role, party.endpoint, _number(party, role), _did(party, role, naming), _callflow(call, party, naming)
    )


def call_facts(call: Call, naming: PbxConfig) -> CallFacts:
    """Return the current facts of a call."""
    here = real_parties(call)
    first = call.first
    if first is None:
        return CallFacts()
    facts = {party.id: party_facts(call, party, naming) for party in here}
    begun = facts.get(first.id) or party_facts(call, first, naming)
    others = [party for party in here if party is not first]
    caller, callee = begun.number, _callee(call, first, others, facts, naming)
    if first.dialed and (begun.role == "trunk" or (call.originated and not others)):
        # The person there was called: by the connected party, or with this caller ID.
        caller = next((facts[party.id].number for party in others), first.first_connected_number)
        callee = begun.number
    dids = {fact.did for fact in (begun, *facts.values()) if fact.did}
    primary = call.primary or first
    callflow = (facts.get(primary.id) or begun).callflow
    ringing = {party.id for party in here if _is_rung(party)}
    return CallFacts(
        direction=_direction(call, begun, naming),
        caller=caller,
        callee=callee,
        did=begun.did or next((fact.did for fact in facts.values() if fact.did), ""),
        extensions=frozenset(_names(facts[party.id] for party in here if party.id not in ringing)),
        trunks=frozenset(fact.endpoint for fact in _of_role(facts, "trunk", set(facts) - ringing)),
        dids=frozenset(dids),
        callflow=callflow or next((fact.callflow for fact in facts.values() if fact.callflow), ""),
        ringing_extensions=frozenset(_names(facts[party_id] for party_id in ringing)),
        ringing_trunks=frozenset(fact.endpoint for fact in _of_role(facts, "trunk", ringing)),
    )


def _role(party: Party, naming: PbxConfig) -> Role:
    return "other" if party.is_local else role_of(naming, party.endpoint, party.first_context)


def _is_rung(party: Party) -> bool:
    return party.dialed and party.state != "Up"


def _names(facts: Iterable[PartyFacts]) -> Iterator[str]:
    for fact in facts:
        if fact.role == "extension":
            yield fact.endpoint
            if fact.number:
                yield fact.number


def _of_role(facts: dict[str, PartyFacts], role: Role, ids: Iterable[str]) -> Iterator[PartyFacts]:
    return (facts[party_id] for party_id in ids if facts[party_id].role == role)


def _number(party: Party, role: Role) -> str:
    """Return the number as a person would say it: without access code, and not the caller ID shown outside."""
    if party.is_local:
        return party.endpoint.partition("@")[0]
    if role == "trunk":
        return (party.dialed and _dialed_number(party)) or party.caller_number or party.first_caller_number
    if party.endpoint.isdecimal():
        return party.endpoint
    return party.first_caller_number or party.caller_number or party.endpoint


def _dialed_number(party: Party) -> str:
    """Return ``5550100`` for ``5550100@trunk-a``, ``PJSIP/trunk-a/sip:5550100@host``, ``trunk-a/5550100``, ..."""
    user, at, _ = party.dialstring.rpartition("@")
    number = (user if at else party.dialstring).rpartition("/")[2]
    number = re.sub(r"^(sips?|tel):", "", number).partition(";")[0]
    return "" if number == party.endpoint else number


def _did(party: Party, role: Role, naming: PbxConfig) -> str:
    if role != "trunk" or party.dialed:
        return ""
    # Of an older call only the current position is known, which may be far from the trunk.
    known = party.born_seen or _matches(party.first_context, naming.trunk_contexts)
    candidates = (party.from_did, party.first_exten if known else "", party.dnid)
    return next((did for did in candidates if did not in _NO_NUMBER), "")


def _direction(call: Call, begun: PartyFacts, naming: PbxConfig) -> PbxDirection:
    first = call.first
    if first is not None and begun.role == "trunk":
        return "outbound" if first.dialed else "inbound"
    everybody = (*call.former, *call.parties.values())
    legs = [party for party in everybody if party.dialed and not party.is_local and party is not first]
    if first is not None and first.dialed and call.originated and not legs:
        return "outbound"
    roles = {_role(party, naming) for party in legs if party.state == "Up"}
    if roles:
        return "outbound" if "trunk" in roles else "internal"
    # A phone that rings together with somebody's mobile does not make the call outbound.
    roles = {_role(party, naming) for party in [leg for leg in legs if leg.id in call.parties] or legs[-1:]}
    return "outbound" if roles == {"trunk"} else "internal"


def _callee(call: Call, first: Party, others: list[Party], facts: dict[str, PartyFacts], naming: PbxConfig) -> str:
    present = [party for party in others if party.state == "Up"]
    if not present and len(others) == 1 and not facts[others[0].id].callflow:
        present = others
    if present and facts[present[0].id].number:
        return facts[present[0].id].number
    answered = [party for party in call.former if party.dialed and party.state == "Up" and not party.is_local]
    if answered and not others:
        return _number(answered[-1], _role(answered[-1], naming))
    dialed = first.exten if first.dialed else first.first_exten
    return next((number for number in (dialed, first.from_did, first.dnid) if number not in _NO_NUMBER), "")


def _callflow(call: Call, party: Party, naming: PbxConfig) -> str:
    own = _own_callflow(party, naming)
    if own in (QUEUE, RINGGROUP) and party.bridge_id is not None and party.app_name not in OUTGOING_APPS:
        # After parking or an attended transfer, the caller is still in Queue() or Dial(), but with another party. While
        # Local channels between them are being optimized away, no party is in reach: then the active parties of this
        # call count.
        talking = (other for other in call.parties.values() if other.state == "Up" and other is not party)
        mates = _real_mates(call, party) or [other for other in talking if not other.is_local]
        if party.bridge_creator == "Parking" or (mates and not any(_was_called_for(mate, party) for mate in mates)):
            own = ""
    if own not in ("", CONFERENCE):
        return own
    for other in _reach(call, party):
        if other.is_local and (flow := _own_callflow(other, naming)) and other.app_name not in OUTGOING_APPS:
            own = own or flow
    caller = _dialler(call, party)
    if caller is not None:
        inherited = _own_callflow(caller, naming)
        if inherited == PAGING or (not own and _together(call, caller, party)):
            own = inherited
    return own


def _own_callflow(party: Party, naming: PbxConfig) -> str:
    """Return the scenario of a party's own position in the dialplan."""
    apps = _apps(party)
    called = party.app_name in OUTGOING_APPS or (party.dialed and not apps)
    context = "" if called else party.main_context
    if "page" in apps or _matches(context, naming.paging_contexts):
        return PAGING
    if apps & _CONFERENCE_APPS or party.bridge_creator == "ConfBridge":
        return CONFERENCE
    if apps & {"queue", "appqueue"}:
        return QUEUE
    if apps & _DIAL_APPS:
        targets = _targets(party.app_data)
        if any(target.startswith("MulticastRTP/") for target in targets):
            return PAGING
        several = len(targets) > 1 and not _matches(context, naming.extension_contexts)
        return RINGGROUP if several or _matches(context, naming.ringgroup_contexts) else ""
    if _matches(context, naming.ivr_contexts):
        return "" if apps & _NOT_IN_A_MENU or party.bridge_id is not None else IVR
    if _matches(context, naming.queue_contexts):
        return QUEUE
    if _matches(context, naming.ringgroup_contexts):
        return RINGGROUP
    return CFD if _matches(context, naming.cfd_contexts) else ""


def _targets(app_data: str) -> set[str]:
    """Return the distinct targets of a Dial(); several contacts of one endpoint count as one."""
    targets = set()
    for target in app_data.partition(",")[0].split("&"):
        match = _TARGET.match(target)
        if match is not None:
            rest = match["rest"]
            local = match["tech"] in ("Local", "MulticastRTP")
            targets.add(f"{match['tech']}/{rest if local else rest.partition('/sip')[0]}")
    return targets


def _was_called_for(mate: Party, party: Party) -> bool:
    return mate.dialed and mate.dialed_by in ("", party.id)


def _dialler(call: Call, party: Party) -> Party | None:
    """Return the party for which a party was dialed.

    If Asterisk has not reported it (Page() never does, others report late): the party that runs a dialing application.
    """
    if party.dialed_by or not party.dialed:
        return call.parties.get(party.dialed_by)
    others = [other for other in call.parties.values() if other is not party and _apps(other) & _CALLING_APPS]
    newest = others[-1] if others else None
    if newest is not None and newest.is_local:
        half = next((other for other in call.parties.values() if other.name == newest.other_half), newest)
        return call.parties.get(half.dialed_by, newest)
    return newest


def _together(call: Call, caller: Party, callee: Party) -> bool:
    """Return whether the callee rings, is about to talk, or is in the caller's bridge, also through Local channels."""
    if callee.bridge_id is None:
        return callee.app_name in ("", *OUTGOING_APPS)
    if caller in _reach(call, callee):
        return True
    # The two enter and leave their bridge one after the other, as may Local channels between them.
    return not _real_mates(call, callee) and not _real_mates(call, caller)


def _reach(call: Call, party: Party) -> list[Party]:
    """Return the parties connected with a party by bridges and Local channels, itself included, nearest first."""
    reached = {party.id: party}
    seen: set[str] = set()
    nearest = [party]
    for one in nearest:
        bridge_id = one.bridge_id if one.bridge_id not in seen else None
        if bridge_id is None and not one.is_local:
            continue
        seen.add(bridge_id or "")
        for other in call.parties.values():
            joined = bridge_id is not None and other.bridge_id == bridge_id
            if (joined or (one.is_local and other.name == one.other_half)) and other.id not in reached:
                reached[other.id] = other
                nearest.append(other)
    return nearest


def _real_mates(call: Call, party: Party) -> list[Party]:
    return [mate for mate in _reach(call, party) if mate is not party and not mate.is_local]


def _apps(party: Party) -> set[str]:
    return {party.app_name.lower(), party.outer_app.lower()} - {""}


def _matches(name: str, patterns: Patterns) -> bool:
    return bool(name) and patterns.match(name)
