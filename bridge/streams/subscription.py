"""Who gets a call by itself: values made of the configuration or of what came over HTTP, and whether they match.

A `Subscription` says which calls go to an application, a `Route` which of those that the dialplan hands to us. Making
one checks everything: also that the dialect exists and takes the options, by constructing it once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self, TypeVar

from pydantic import ValidationError, model_validator

from bridge import dialects
from bridge.access import CONFIGURATION
from bridge.calls.facts import CallFacts
from bridge.config import Config, ConfigErrors, RouteConfig, SubscriptionConfig, TargetConfig
from bridge.config.streams import UUID_PREFIX
from bridge.config.values import server_of
from bridge.dialects.base import Account, Dialect, Setting
from bridge.errors import ConfigError
from bridge.masking import is_deeper
from bridge.patterns import MAX_PATTERNS, Patterns
from bridge.validation import explain, sentence

GROUP_PREFIX = "@"
AUTO = "auto"
"""The usual layout of the dialect."""
NO_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType({})

MAX_OPTIONS_CHARACTERS = 16 * 1024
"""Of one subscription, as JSON."""
MAX_OPTIONS_DEPTH = 20

AnyTarget = TypeVar("AnyTarget", bound=TargetConfig)
_OF_DIALECT = frozenset({"dialect", "options", "tracks", "sample_rate"})
_STAND_INS = {"id": "x", "url": "wss://example.org/", "match": "1"}
"""Good values of keys that have no default, to check the others when these are wrong."""


class Target(TargetConfig):
    """An application to dial, in a dialect that is known to work with its options.

    Raises (pydantic's ValidationError, with words):
        the dialect does not exist or refuses its options.
    """

    @model_validator(mode="after")
    def _dialect_takes_options(self) -> Self:
        self._check_dialect(two_way=False)
        return self

    def _check_dialect(self, *, two_way: bool) -> Dialect:
        """Create the dialect once, as for a call.

        Raises:
            ValueError: the dialect does not exist, or refuses its options or its layout.
        """
        expected = (AUTO, *dialects.layouts())
        if self.tracks not in expected:
            raise ValueError(f"tracks: expected one of {', '.join(expected)}; got {json.dumps(self.tracks)[:80]}")
        return self.new_dialect(Setting(self.layout, two_way))

    @property
    def dialect_class(self) -> type[Dialect]:
        """What is known of the dialect without a stream.

        Raises:
            ValueError: the dialect does not exist.
        """
        try:
            return dialects.find(self.dialect)
        except LookupError as error:
            raise ValueError(f"dialect: {error.args[0]}") from None

    @property
    def place(self) -> str:
        """The URL without what may be a secret: for logs and lists."""
        return server_of(self.url)

    @property
    def configured(self) -> bool:
        """Whether the configuration file names it: what a request or a flow names is trusted with less."""
        return False

    @property
    def host_configured(self) -> bool:
        """Whether at least the host of its URL is named there."""
        return self.configured

    @property
    def layout(self) -> str:
        """The name of the layout of the tracks, ``auto`` resolved."""
        return self.dialect_class.default_layout if self.tracks == AUTO else self.tracks

    def new_dialect(self, setting: Setting | None = None) -> Dialect:
        """Create the dialect of one stream.

        Args:
            setting: what is known of the stream; None: its layout.

        Raises:
            ValueError: the dialect does not exist or refuses its options, in words.
        """
        dialect, options = self.dialect_class, dict(self.options)
        if self.sample_rate is not None:
            if "rate" not in dialect.options():
                raise ValueError(f"sample_rate: the dialect {self.dialect} has one fixed rate")
            if options.setdefault("rate", self.sample_rate) != self.sample_rate:
                raise ValueError("sample_rate: options.rate says something else")
        return dialect.create(options, setting or Setting(self.layout))


class Subscription(SubscriptionConfig, Target):
    """Calls that go to one application by themselves.

    Args:
        source: who has made it: the configuration, the HTTP API, or a vendor's settings call.
        principal: id of the owner (`bridge.access.Principal`), to whom its streams belong: who created it, or last
            changed more than ``enabled``.
    """

    source: str = "config"
    principal: str = CONFIGURATION.id

    def delivers_as(self, other: Subscription) -> bool:
        """Return whether both send the same audio to the same application: names and owners do not count."""
        return self.model_copy(update={"name": other.name, "principal": other.principal}) == other

    @property
    def configured(self) -> bool:
        """Whether the configuration file names it."""
        return self.source == "config"

    @property
    def of_settings_calls(self) -> bool:
        """Whether a vendor's settings calls maintain it, which fill its lists bit by bit."""
        return self.source not in ("config", "api")

    @model_validator(mode="after")
    def _is_bounded(self) -> Subscription:
        if self.pattern_count > MAX_PATTERNS:
            raise ValueError(f"extensions: with trunks and dids expected at most {MAX_PATTERNS} patterns")
        if is_deeper(self.options, MAX_OPTIONS_DEPTH):
            raise ValueError(f"options: are nested deeper than {MAX_OPTIONS_DEPTH} levels")
        if self.options_size > MAX_OPTIONS_CHARACTERS:
            raise ValueError(f"options: are longer than {MAX_OPTIONS_CHARACTERS} characters as JSON")
        return self

    @cached_property
    def options_size(self) -> int:
        """Return how many characters its options have as JSON."""
        return len(json.dumps(self.options, default=str))

    @property
    def pattern_count(self) -> int:
        """Return how many patterns it has in all lists together."""
        return len(self.extensions) + len(self.trunks) + len(self.dids)

    def resolved(self, groups: Mapping[str, Collection[str]]) -> Subscription:
        """The same with every ``@group`` replaced by its members; a group that is not there has none."""
        if not any(pattern.startswith(GROUP_PREFIX) for pattern in self.extensions):
            return self
        extensions = Patterns(dict.fromkeys(_expanded(self.extensions, groups)))
        return self if extensions == self.extensions else self.model_copy(update={"extensions": extensions})

    def prepare(self) -> None:
        """Compile what decides which calls it gets (`bridge.patterns.Patterns.prepare`); work for a thread."""
        for patterns in (self.extensions, self.trunks, self.dids):
            patterns.prepare()


class Route(RouteConfig, Target):
    """Which application a call gets that the dialplan hands to us."""

    @model_validator(mode="after")
    def _dialect_takes_options(self) -> Self:
        self._check_dialect(two_way=True)
        return self

    @property
    def configured(self) -> bool:
        """Whether the configuration file names it: always."""
        return True

    def matches_number(self, number: str) -> bool:
        """Whether it is for calls to this number (an extension, or the argument of ``Stasis()``)."""
        return not self.match.startswith(UUID_PREFIX) and self._pattern.match(number)

    def matches_uuid(self, uuid: str) -> bool:
        """Whether it is for an AudioSocket connection that says this UUID (in its canonical text form)."""
        return self.match.startswith(UUID_PREFIX) and self._pattern.match(uuid.lower())

    @cached_property
    def _pattern(self) -> Patterns:
        return Patterns((self.match.removeprefix(UUID_PREFIX),))


def matches(subscription: Subscription, call: CallFacts, groups: Mapping[str, Collection[str]] = NO_GROUPS) -> bool:
    """Whether any object of any kind takes part in the call. Whether the subscription is switched on is not asked."""
    subscription = subscription.resolved(groups) if groups else subscription
    objects = (
        ("extensions", subscription.extensions, call.extensions),
        ("trunks", subscription.trunks, call.trunks),
        ("dids", subscription.dids, call.dids),
    )
    return any(
        patterns.match(name) for kind, patterns, names in objects if kind not in subscription.ignored for name in names
    )


def subscriptions_of(config: Config) -> tuple[Subscription, ...]:
    """The configured subscriptions.

    Raises:
        ConfigError: a dialect does not exist or refuses its options.
    """
    return tuple(_each("subscriptions", Subscription, config.subscriptions))


def routes_of(config: Config) -> tuple[Route, ...]:
    """The configured routes of the dialplan, in their order.

    Raises:
        ConfigError: a dialect does not exist or refuses its options.
    """
    return tuple(_each("dialplan", Route, config.dialplan))


def account_of(config: Config, dialect: str) -> Account:
    """Return the identity of the bridge towards applications that speak a dialect."""
    account, secret = config.accounts.get(dialect, ("", ""))
    return Account(config.ari.app, account, secret)


def values_of(target: TargetConfig) -> dict[str, Any]:
    """The value as a table of plain types, its secret in clear: what can be kept and be validated again."""
    values = target.model_dump(mode="json")
    values["auth_value"] = target.auth_value.get_secret_value()
    return values


class InvalidTarget(ValueError):
    """A table that is not a subscription or a route; ``faults`` are all keys that are wrong, with the reasons."""

    def __init__(self, faults: Iterable[tuple[str, str]]) -> None:
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__(sentence(iter(self.faults)))


def validated(kind: type[AnyTarget], values: Mapping[str, Any], *, described: bool = False) -> AnyTarget:
    """Make a subscription or a route of a table.

    Args:
        kind: which of them.
        values: plain types, as in JSON.
        described: as in `bridge.validation.explain`.

    Raises:
        InvalidTarget: with everything that is wrong. Whether dialect and options fit is checked also if other keys are
            wrong: what a model checks as a whole would wait until they are right.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as problem:
        faults = list(explain(problem, kind, described=described))
        wrong = {str(detail["loc"][0]) for detail in problem.errors(include_url=False) if detail["loc"]}
    if wrong and not wrong & _OF_DIALECT:
        others = {key: value for key, value in values.items() if key in kind.model_fields and key not in wrong}
        try:
            kind.model_validate({key: _STAND_INS[key] for key in wrong & _STAND_INS.keys()} | others)
        except ValidationError as problem:
            faults += explain(problem, kind, described=described)
    raise InvalidTarget(faults)


def _each(section: str, kind: type[Any], tables: Iterable[TargetConfig]) -> Iterable[Any]:
    errors, made = [], []
    for index, table in enumerate(tables):
        try:
            made.append(validated(kind, values_of(table)))
        except InvalidTarget as problem:
            for key, reason in problem.faults:
                errors.append(ConfigError(f"{section}.{index}.{key}".removesuffix("."), reason))
    if errors:
        raise errors[0] if len(errors) == 1 else ConfigErrors(errors)
    return made


def _expanded(patterns: Iterable[str], groups: Mapping[str, Collection[str]]) -> Iterable[str]:
    for pattern in patterns:
        if pattern.startswith(GROUP_PREFIX):
            yield from groups.get(pattern.removeprefix(GROUP_PREFIX), ())
        else:
            yield pattern
