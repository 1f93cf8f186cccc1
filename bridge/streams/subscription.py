"""Subscriptions and routes: values from the configuration or from HTTP, and whether they match a call.

A `Subscription` states which calls are streamed to an application, a `DialplanRoute` which of the calls that the
dialplan hands over. Constructing one checks everything, including the dialect and its options, by constructing the
dialect once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, Self, TypeVar

from pydantic import ValidationError, model_validator

from bridge import dialects, templates
from bridge.access import CONFIGURATION
from bridge.calls.facts import CallFacts
from bridge.config import Config, ConfigErrors, RouteConfig, SubscriptionConfig, TargetConfig
from bridge.config.agents import FROM_OUTSIDE, AgentConfig
from bridge.config.streams import UUID_PREFIX
from bridge.config.values import server_of
from bridge.dialects.agent import AgentSettings, ToolSpec
from bridge.dialects.base import Account, Dialect, Setting
from bridge.dialects.model import ModelDialect
from bridge.errors import ConfigError
from bridge.masking import is_deeper
from bridge.patterns import MAX_PATTERNS, Patterns
from bridge.validation import explain, sentence

GROUP_PREFIX = "@"
AUTO = "auto"
"""The default layout of the dialect."""
NO_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType({})

MAX_OPTIONS_CHARACTERS = 16 * 1024
"""Limit of one subscription's options, in characters of JSON."""
MAX_OPTIONS_DEPTH = 20

AnyTarget = TypeVar("AnyTarget", bound=TargetConfig)
_OF_DIALECT = frozenset({"dialect", "options", "tracks", "sample_rate"})
CONFIGURATION_KEYS = (
    *("extra_headers", "auth_value_file", "subprotocols"),
    *("client_certificate", "client_key", "channel_variables"),
)
"""Keys that only the configuration file may have: some name files of this machine, or reveal facts about calls."""
_STAND_INS = {"id": "x", "url": "wss://example.org/", "match": "1"}
"""Valid values of keys without defaults, to check the others while these are invalid."""


class Target(TargetConfig):
    """An application to connect to, with a dialect that accepts its options.

    Raises:
        pydantic.ValidationError: the dialect does not exist or rejects its options.
    """

    @model_validator(mode="after")
    def _dialect_takes_options(self) -> Self:
        self._check_dialect(two_way=False)
        return self

    def _check_dialect(self, *, two_way: bool) -> Dialect:
        """Create the dialect once, as for a call.

        Raises:
            ValueError: the dialect does not exist, or rejects its options or its layout.
        """
        expected = (AUTO, *dialects.layouts())
        if self.agent != _no_agent() and not issubclass(self.dialect_class, ModelDialect):
            models = ", ".join(
                sorted(name for name, each in dialects.known().items() if issubclass(each, ModelDialect))
            )
            raise ValueError(f"agent: the dialect {self.dialect} is not a model; expected one of {models}")
        for key in FROM_OUTSIDE if not self.host_configured else ():
            if getattr(self.agent, key) != getattr(_no_agent(), key):
                raise ValueError(f"agent.{key}: only in the configuration file")
        for key in CONFIGURATION_KEYS if not self.host_configured else ():
            if getattr(self, key):
                raise ValueError(f"{key}: only in the configuration file")
        self._check_templates()
        if self.tracks not in expected:
            raise ValueError(f"tracks: expected one of {', '.join(expected)}; got {json.dumps(self.tracks)[:80]}")
        return self.new_dialect(Setting(self.layout, two_way, agent=settings_of(self.agent)))

    def _check_templates(self) -> None:
        """Check the names in the templates of URL, headers and parameters.

        Raises:
            ValueError: a name is unknown, or stands where it may not; the message begins with the key.
        """
        names = (*templates.FACTS, *self.channel_variables)
        parameters = self.options.get("parameters")
        texts = {f"extra_headers.{name}": value for name, value in self.extra_headers.items()}
        if isinstance(parameters, Mapping):
            texts |= {f"options.parameters.{name}": value for name, value in parameters.items()}
        _check_template("url", self.url, names, templates.check_url)
        for key, text in texts.items():
            if isinstance(text, str):
                _check_template(key, text, names, templates.check)

    @property
    def varies(self) -> bool:
        """Whether URL, headers or credential may differ from one connection to the next."""
        texts = (self.url, *self.extra_headers.values())
        return bool(self.auth_value_file) or any(map(templates.names_in, texts))

    @property
    def dialect_class(self) -> type[Dialect]:
        """The class of the dialect.

        Raises:
            ValueError: the dialect does not exist.
        """
        try:
            return dialects.find(self.dialect)
        except LookupError as error:
            raise ValueError(f"dialect: {error.args[0]}") from None

    @property
    def counted_as(self) -> str:
        """The key by which the minutes of a model are counted; empty: the stream's origin."""
        return ""

    @property
    def is_model(self) -> bool:
        """Whether the application is a model."""
        return bool(self.dialect) and issubclass(self.dialect_class, ModelDialect)

    @property
    def display_url(self) -> str:
        """The URL without possible secrets: for logs and lists."""
        return server_of(self.url)

    @property
    def configured(self) -> bool:
        """Whether the target is part of the configuration file, which is trusted more than requests and flows."""
        return False

    @property
    def host_configured(self) -> bool:
        """Whether the configuration file determines at least the host of the URL."""
        return self.configured

    @property
    def layout(self) -> str:
        """The name of the layout of the tracks, with ``auto`` resolved."""
        return self.dialect_class.default_layout if self.tracks == AUTO else self.tracks

    def new_dialect(self, setting: Setting | None = None) -> Dialect:
        """Create the dialect of one stream.

        Args:
            setting: facts about the stream; None: its layout.

        Raises:
            ValueError: the dialect does not exist or rejects its options.
        """
        dialect, options = self.dialect_class, dict(self.options)
        if self.sample_rate is not None:
            if "rate" not in dialect.options():
                raise ValueError(f"sample_rate: the dialect {self.dialect} has a fixed rate")
            if options.setdefault("rate", self.sample_rate) != self.sample_rate:
                raise ValueError("sample_rate: conflicts with options.rate")
        return dialect.create(options, setting or Setting(self.layout))


def _check_template(key: str, text: str, names: Collection[str], check: Callable[[str, Collection[str]], None]) -> None:
    try:
        check(text, names)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


class Subscription(SubscriptionConfig, Target):
    """Calls that are streamed to one application automatically.

    Args:
        source: what created it: the configuration, the HTTP API, or a vendor's settings API.
        principal: id of the owner (`bridge.access.Principal`), to whom its streams belong: who created it, or last
            changed more than ``enabled``.
    """

    source: str = "config"
    principal: str = CONFIGURATION.id

    def delivers_as(self, other: Subscription) -> bool:
        """Return whether both send the same audio to the same application; names and owners may differ."""
        return self.model_copy(update={"name": other.name, "principal": other.principal}) == other

    @property
    def configured(self) -> bool:
        """Whether the target is part of the configuration file."""
        return self.source == "config"

    @property
    def of_settings_api(self) -> bool:
        """Whether a vendor's settings API maintains the subscription and fills its lists step by step."""
        return self.source not in ("config", "api")

    @model_validator(mode="after")
    def _is_bounded(self) -> Subscription:
        if self.pattern_count > MAX_PATTERNS:
            raise ValueError(f"extensions: expected at most {MAX_PATTERNS} patterns, including trunks and dids")
        if is_deeper(self.options, MAX_OPTIONS_DEPTH):
            raise ValueError(f"options: nested more than {MAX_OPTIONS_DEPTH} levels deep")
        if self.options_size > MAX_OPTIONS_CHARACTERS:
            raise ValueError(f"options: exceed {MAX_OPTIONS_CHARACTERS} characters as JSON")
        return self

    @cached_property
    def options_size(self) -> int:
        """The number of characters of the options as JSON."""
        return len(json.dumps(self.options, default=str))

    @property
    def pattern_count(self) -> int:
        """The number of patterns in all lists together."""
        return len(self.extensions) + len(self.trunks) + len(self.dids)

    def resolved(self, groups: Mapping[str, Collection[str]]) -> Subscription:
        """Return the subscription with every ``@group`` replaced by its members; an unknown group has none."""
        if not any(pattern.startswith(GROUP_PREFIX) for pattern in self.extensions):
            return self
        extensions = Patterns(dict.fromkeys(_expanded(self.extensions, groups)))
        return self if extensions == self.extensions else self.model_copy(update={"extensions": extensions})

    def prepare(self) -> None:
        """Compile the patterns (`bridge.patterns.Patterns.prepare`); call in a thread."""
        for patterns in (self.extensions, self.trunks, self.dids):
            patterns.prepare()


class DialplanRoute(RouteConfig, Target):
    """The application for calls that the dialplan hands over."""

    @model_validator(mode="after")
    def _dialect_takes_options(self) -> Self:
        self._check_dialect(two_way=True)
        return self

    @property
    def configured(self) -> bool:
        """Whether the target is part of the configuration file: always."""
        return True

    def matches_number(self, number: str) -> bool:
        """Return whether the route matches calls to this number (an extension, or the argument of ``Stasis()``)."""
        return not self.match.startswith(UUID_PREFIX) and self._pattern.match(number)

    def matches_uuid(self, uuid: str) -> bool:
        """Return whether the route matches an AudioSocket connection with this UUID (in canonical form)."""
        return self.match.startswith(UUID_PREFIX) and self._pattern.match(uuid.lower())

    @cached_property
    def _pattern(self) -> Patterns:
        return Patterns((self.match.removeprefix(UUID_PREFIX),))


def matches(subscription: Subscription, call: CallFacts, groups: Mapping[str, Collection[str]] = NO_GROUPS) -> bool:
    """Return whether a subscription, enabled or not, matches any object of a call."""
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
    """Return the configured subscriptions.

    Raises:
        ConfigError: a dialect does not exist or rejects its options.
    """
    return tuple(_each("subscriptions", Subscription, config.subscriptions))


def routes_of(config: Config) -> tuple[DialplanRoute, ...]:
    """Return the configured routes of the dialplan, in their order.

    Raises:
        ConfigError: a dialect does not exist or rejects its options.
    """
    return tuple(_each("dialplan", DialplanRoute, config.dialplan))


def account_of(config: Config, dialect: str) -> Account:
    """Return the product's identity toward applications of a dialect."""
    account, secret = config.accounts.get(dialect, ("", ""))
    return Account(config.ari.app, account, secret)


@cache
def _no_agent() -> AgentConfig:
    return AgentConfig()


def settings_of(agent: AgentConfig, tools: Sequence[ToolSpec] = ()) -> AgentSettings:
    """Return the configured settings of a model, without its key."""
    return AgentSettings(
        tools=tools,
        instructions=agent.instructions,
        voice=agent.voice,
        language=agent.language,
        model=agent.model,
        greeting=agent.greeting,
        parameters=agent.parameters,
        key_header=agent.key_header,
    )


def values_of(target: TargetConfig) -> dict[str, Any]:
    """Return the value as a table of plain types, its secret included: for storage and validation."""
    values = target.model_dump(mode="json")
    values["auth_value"] = target.auth_value.get_secret_value()
    if target.agent == _no_agent():
        del values["agent"]
    else:
        values["agent"]["settings_secret"] = target.agent.settings_secret.get_secret_value()
    return values


class InvalidTarget(ValueError):
    """A table that is not a valid subscription or route; ``faults`` lists all invalid keys with the reasons."""

    def __init__(self, faults: Iterable[tuple[str, str]]) -> None:
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__(sentence(iter(self.faults)))


def validated(kind: type[AnyTarget], values: Mapping[str, Any], *, described: bool = False) -> AnyTarget:
    """Create a subscription or a route from a table.

    Args:
        kind: the class.
        values: plain types, as in JSON.
        described: as in `bridge.validation.explain`.

    Raises:
        InvalidTarget: lists every error. Dialect and options are checked even if other keys are invalid, which pydantic
            alone would not do.
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
        if not table.streamed:
            continue
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
