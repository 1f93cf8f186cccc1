"""Which destinations may be called, with which caller ID, and how often. Pure.

Destinations become dial strings here. Characters with a meaning in Asterisk's dial strings ("&", "/", ",", "@") never
come from outside; ``[calling]`` decides about costs of numbers, and about hosts of SIP addresses.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Literal

from bridge.calls.addresses import Address
from bridge.calls.facts import role_of
from bridge.config import PbxConfig
from bridge.config.calling import CallingConfig
from bridge.errors import Overloaded

PERIOD_S = 60.0
MAX_TOKENS = 10_000
"""Limit of tokens whose calls are counted, above the limit of a configuration."""

_TARGETS = {
    "tel": (re.compile(r"\+?[0-9*#]{1,40}"), "digits, optionally after a +"),
    # Only those parameters of a SIP URI that do not determine where the request goes: maddr and route would.
    "sip": (
        re.compile(
            r"sips?:[A-Za-z0-9_.!~*'()%+=$-]{1,80}@([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
            r"(;(transport|user)=[A-Za-z]{1,10}){0,2}"
        ),
        "sip:user@host, without parameters other than transport and user",
    ),
    "extension": (re.compile(r"[A-Za-z0-9_.*#+-]{1,80}"), "an extension"),
    "conference": (re.compile(r"[A-Za-z0-9_.-]{1,80}"), "the id of a conference"),
}
_KEYS = {"tel": "number", "sip": "uri", "extension": "extension", "conference": "conference"}
_SEPARATORS = re.compile(r"[\s()./-]")


class NotAllowed(ValueError):
    """A destination, or a caller ID, that the configuration does not allow."""


class DialPolicy:
    """Applies the rules of ``[calling]``.

    Args:
        config: the section.
        naming: which endpoints are trunks.
        clock: returns seconds on a monotonic clock.
    """

    def __init__(self, config: CallingConfig, naming: PbxConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._naming = naming
        self._clock = clock
        self._calls: dict[str, deque[float]] = {}
        """Times of each token's latest calls; of all calls under the empty id."""

    def endpoint_of(self, destination: Address) -> str:
        """Return the dial string of a destination: ``PJSIP/1001``.

        Raises:
            NotAllowed: the configuration does not allow it.
            ValueError: it cannot be dialed; the message is the reason.
        """
        kind = destination.type
        template = self.template_of(kind)
        target = destination.target
        if len(target) > 500:
            raise ValueError(f"target has {len(target)} characters; expected at most 500")
        if kind == "tel":
            target = _SEPARATORS.sub("", target)
        if kind == "sip" and not target.startswith(("sip:", "sips:")):
            target = f"sip:{target}"
        pattern, expected = _TARGETS[kind]
        found = pattern.fullmatch(target)
        if not found:
            raise ValueError(f"target {target[:80]!r} cannot be dialed; expected {expected}")
        if kind == "sip":
            self._check_host(found[1])
        elif kind != "conference":
            self._check_number(kind, target)
        if kind == "extension":
            self._check_extension(target, template)
        return template.replace("{context}", self._config.context).replace("{" + _KEYS[kind] + "}", target)

    def template_of(self, kind: str) -> str:
        """Return the template for destinations of a type: ``PJSIP/{extension}``.

        Raises:
            ValueError: such destinations cannot be dialed.
        """
        if kind not in _KEYS:
            raise ValueError("unknown or missing type; expected tel, sip, extension or conference")
        template: str = getattr(self._config, f"{kind}_endpoint")
        if not template:
            raise ValueError(f"{kind} destinations cannot be dialed here: calling.{kind}_endpoint is not configured")
        if "{context}" in template and not self._config.context:
            raise ValueError(f"{kind} destinations cannot be dialed here: calling.context is not configured")
        return template

    @property
    def number_type(self) -> Literal["tel", "extension"]:
        """The type of a number that names none: ``tel`` if such destinations can be dialed, else ``extension``."""
        return "tel" if self._config.tel_endpoint else "extension"

    def check_source(self, source: Address | None) -> None:
        """Check the caller ID in a request; none, or the configured one, is always allowed.

        Raises:
            NotAllowed: not in ``calling.caller_ids``.
        """
        allowed = self._config.caller_ids
        if not allowed or source is None or source.target in ("", self._config.caller_id):
            return
        number = _SEPARATORS.sub("", source.target[:500])
        if not allowed.match(number) and not allowed.match(source.target[:500]):
            raise NotAllowed(f"source {source.target[:80]!r} is not allowed by calling.caller_ids")

    def count(self, token: str) -> None:
        """Count a call that is about to be originated.

        Args:
            token: id of the token of the request.

        Raises:
            Overloaded: the limit of calls within a minute is reached.
        """
        now = self._clock()
        limits = (
            ("", self._config.max_calls_per_minute, "max_calls_per_minute"),
            (token, self._config.max_calls_per_minute_per_token, "max_calls_per_minute_per_token"),
        )
        counted: list[deque[float]] = []
        for key, limit, name in limits:
            times = self._calls.setdefault(key, deque())
            while times and now - times[0] >= PERIOD_S:
                times.popleft()
            if len(times) >= limit:
                raise Overloaded(f"{limit} calls were originated within a minute, the limit calling.{name}")
            counted.append(times)
        for times in counted:
            times.append(now)
        if len(self._calls) > MAX_TOKENS:
            self._calls = {key: times for key, times in self._calls.items() if times and now - times[-1] < PERIOD_S}

    def _check_host(self, host: str) -> None:
        if not self._config.sip_hosts.match(host.lower().strip("[]")):
            raise NotAllowed(f"calls to SIP host {host[:80]} are not allowed by calling.sip_hosts")

    def _check_number(self, kind: str, number: str) -> None:
        """Check prefixes. The longest match decides, so a part of a denied range can be allowed."""
        config = self._config
        denied = max((len(each) for each in config.denied_numbers if number.startswith(each)), default=0)
        if kind == "extension":  # perhaps an outside number; the dialplan decides
            if denied:
                raise NotAllowed(f"calls to {number[:40]} are not allowed by calling.denied_numbers")
            return
        allowed = max((len(each) for each in config.allowed_numbers if number.startswith(each)), default=0)
        if (config.allowed_numbers and not allowed) or denied > allowed:
            key = "denied_numbers" if denied else "allowed_numbers"
            raise NotAllowed(f"calls to {number[:40]} are not allowed by calling.{key}")

    def _check_extension(self, extension: str, template: str) -> None:
        if template.lower().startswith("local/"):
            return  # the dialplan decides
        if role_of(self._naming, extension) != "extension":
            raise NotAllowed(
                f"{extension[:80]} is a trunk or unknown, not an extension. Set pbx.extensions and pbx.trunks to"
                " identify extensions"
            )
