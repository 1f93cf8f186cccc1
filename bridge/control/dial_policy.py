"""Who may be called, as whom, and how often: destinations become dial strings here or are refused. Pure.

What has a meaning in Asterisk's dial strings ("&", "/", ",", "@") never comes from outside; what a number may cost, or
where a SIP address leads, is for ``[calling]`` to allow.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from bridge.calls.addresses import Address
from bridge.calls.facts import Naming
from bridge.config.calling import CallingConfig
from bridge.errors import Overloaded

PERIOD_S = 60.0
MAX_TOKENS = 10_000
"""Tokens whose calls are counted at once; more than a configuration can hold."""

_TARGETS = {
    "tel": (re.compile(r"\+?[0-9*#]{1,40}"), "digits, with a + before them if need be"),
    # Of a SIP URI's parameters only those that do not decide where the request goes: maddr and route would.
    "sip": (
        re.compile(
            r"sips?:[A-Za-z0-9_.!~*'()%+=$-]{1,80}@([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
            r"(;(transport|user)=[A-Za-z]{1,10}){0,2}"
        ),
        "sip:user@host, with no parameters but transport and user",
    ),
    "extension": (re.compile(r"[A-Za-z0-9_.*#+-]{1,80}"), "an extension"),
    "conference": (re.compile(r"[A-Za-z0-9_.-]{1,80}"), "the id of a conference"),
}
_KEYS = {"tel": "number", "sip": "uri", "extension": "extension", "conference": "conference"}
_SEPARATORS = re.compile(r"[\s()./-]")


class NotAllowed(ValueError):
    """A destination, or a caller ID, that the configuration does not allow."""


class DialPolicy:
    """What ``[calling]`` allows.

    Args:
        config: the section.
        naming: which endpoints are trunks.
        clock: seconds, monotonic.
    """

    def __init__(self, config: CallingConfig, naming: Naming, clock: Callable[[], float]) -> None:
        self._config = config
        self._naming = naming
        self._clock = clock
        self._calls: dict[str, deque[float]] = {}
        """When each token has originated its last calls; all calls under the empty id."""

    def endpoint_of(self, destination: Address) -> str:
        """Return a destination as Asterisk dials it: ``PJSIP/1001``.

        Raises:
            ValueError: the destination cannot be dialed; the message says why.
            NotAllowed: it could be, and the configuration does not allow it.
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
        """Return how destinations of a type are dialed: ``PJSIP/{extension}``.

        Raises:
            ValueError: they cannot be dialed.
        """
        if kind not in _KEYS:
            raise ValueError("type is empty; expected tel, sip, extension or conference")
        template: str = getattr(self._config, f"{kind}_endpoint")
        if not template:
            raise ValueError(f"{kind} destinations cannot be dialed here: calling.{kind}_endpoint is not configured")
        if "{context}" in template and not self._config.context:
            raise ValueError(f"{kind} destinations cannot be dialed here: calling.context is not configured")
        return template

    def check_source(self, source: Address | None) -> None:
        """Check the caller ID that a request names; none, or the configured one, is always allowed.

        Raises:
            NotAllowed: ``calling.caller_ids`` does not hold it.
        """
        allowed = self._config.caller_ids
        if not allowed or source is None or source.target in ("", self._config.caller_id):
            return
        number = _SEPARATORS.sub("", source.target[:500])
        if not allowed.match(number) and not allowed.match(source.target[:500]):
            raise NotAllowed(f"source {source.target[:80]!r} is not allowed; calling.caller_ids lists what is")

    def count(self, token: str) -> None:
        """Count a call that is about to be originated.

        Args:
            token: id of the token by which it is originated.

        Raises:
            Overloaded: as many calls as are allowed have been originated within the last minute.
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
                raise Overloaded(f"{limit} calls have been placed within a minute; calling.{name} allows no more")
            counted.append(times)
        for times in counted:
            times.append(now)
        if len(self._calls) > MAX_TOKENS:
            self._calls = {key: times for key, times in self._calls.items() if times and now - times[-1] < PERIOD_S}

    def _check_host(self, host: str) -> None:
        if not self._config.sip_hosts.match(host.lower().strip("[]")):
            raise NotAllowed(f"calls to SIP host {host[:80]} are not allowed; calling.sip_hosts lists what is")

    def _check_number(self, kind: str, number: str) -> None:
        """Check prefixes. The longest one that fits decides, so that a part of what is denied can be allowed."""
        config = self._config
        denied = max((len(each) for each in config.denied_numbers if number.startswith(each)), default=0)
        if kind == "extension":  # it may be a number that the dialplan sends out; which ones are inside, it knows
            if denied:
                raise NotAllowed(f"calls to {number[:40]} are not allowed: calling.denied_numbers")
            return
        allowed = max((len(each) for each in config.allowed_numbers if number.startswith(each)), default=0)
        if (config.allowed_numbers and not allowed) or denied > allowed:
            key = "denied_numbers" if denied else "allowed_numbers"
            raise NotAllowed(f"calls to {number[:40]} are not allowed: calling.{key}")

    def _check_extension(self, extension: str, template: str) -> None:
        if template.lower().startswith("local/"):
            return  # the dialplan decides what it is
        if self._naming.role(extension) != "extension":
            raise NotAllowed(
                f"{extension[:80]} is not an extension but a trunk or unknown; pbx.extensions and pbx.trunks say which"
                " endpoints are extensions"
            )
