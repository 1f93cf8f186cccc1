"""All subscriptions, from the configuration and from HTTP, and whether each is enabled.

Over HTTP, those of the configuration can only be enabled and disabled. Changes are stored before they take effect: a
change that could not be stored has not happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from urllib.parse import urlsplit

from pydantic import ValidationError

from bridge.ari.dispatch import call_safely
from bridge.config.cross_checks import subscription_contradictions, target_contradictions
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Denied
from bridge.streams.subscription import NO_GROUPS, Subscription, values_of
from bridge.streams.subscription_store import EnabledSwitch, SubscriptionStore
from bridge.tls import Trust, TrustError, build_context, client_context
from bridge.validation import explain, sentence

log = logging.getLogger(__name__)

MAX_MADE = 1000
"""Limit of subscriptions created over HTTP, against programs that run wild."""
MAX_PATTERNS_MADE = 10_000
"""Limit of patterns in all of them: each change of a call is matched against all."""
MAX_OPTIONS_MADE = 256 * 1024
"""Limit of the options of all of them, in characters of JSON: lists of subscriptions include them."""

SubscriptionTable = Mapping[str, tuple[Subscription, Subscription]]
"""Subscriptions by id, each with its resolved form: groups replaced by their members, patterns compiled."""


NOT_RECORDED = "unknown"
"""Owner of a subscription stored by a version that did not record owners."""


class ReadOnly(ValueError):
    """The subscription is part of the configuration, and can only be enabled or disabled."""


class SubscriptionCatalog:
    """All subscriptions, by id.

    Args:
        configured: those of the configuration.
        store: stores the others, and the switches of the configured ones.
        groups: ``pbx.groups``.
        gate: hosts that a subscription created over HTTP may connect to.
    """

    def __init__(
        self,
        configured: Iterable[Subscription],
        store: SubscriptionStore,
        groups: Mapping[str, tuple[str, ...]] = NO_GROUPS,
        *,
        gate: Gate | None = None,
    ) -> None:
        self._store = store
        self._gate = gate or Gate()
        self._configure({each.id: each for each in configured}, groups)
        self._all: dict[str, Subscription] = {}
        self._resolved: dict[str, Subscription] = {}
        """The same with groups replaced by their members and patterns compiled."""
        self._enabled: tuple[Subscription, ...] = ()
        self._listeners: list[Callable[[], None]] = []
        self._changing = asyncio.Lock()
        self.reloading = False
        """Whether the change that listeners are called for came from another worker."""
        self.take({identity: self._prepared(each) for identity, each in self._configured.items()})

    def _configure(self, configured: Mapping[str, Subscription], groups: Mapping[str, tuple[str, ...]]) -> None:
        self._configured, self._groups = configured, groups
        self._patterns_configured = sum(each.pattern_count for each in configured.values())
        self._options_configured = sum(each.options_size for each in configured.values())

    def load(self) -> None:
        """Load the stored subscriptions; once, at the start. Blocks briefly.

        Raises:
            ConfigError: the store cannot be used.
        """
        self.take(self._read())
        if self._store.trouble is not None:
            log.warning(
                "streams.state_file not writable, no subscription can be created over HTTP error=%s",
                self._store.trouble,
            )
        for subscription in self.list():
            if subscription.id not in self._configured:
                self._warn_of_policy(subscription)

    def _warn_of_policy(self, subscription: Subscription) -> None:
        """Log why one created over HTTP cannot connect: ``[outbound]`` has changed, or an older version stored it."""
        try:
            self._gate.check(urlsplit(subscription.url).hostname or "", configured=False)
            if subscription.ca_file:
                build_context(Trust(ca_file=subscription.ca_file, ca_dir=self._gate.ca_dir))
        except (Denied, TrustError) as problem:
            log.warning(
                "subscription created over HTTP cannot connect subscription=%s error=%s", subscription.id, problem
            )

    async def read(self) -> SubscriptionTable:
        """Return the stored subscriptions of all workers; read and validated in a thread.

        Raises:
            ConfigError: the store cannot be used.
        """
        return await asyncio.to_thread(self._read)

    async def reload(self) -> None:
        """Apply the changes of another worker, in order, however long each read takes.

        Raises:
            ConfigError: the store cannot be used.
        """
        async with self._changing:
            await self._read_again()

    async def configure(self, configured: Iterable[Subscription], groups: Mapping[str, tuple[str, ...]]) -> None:
        """Replace the configured subscriptions and the groups; streams of unchanged ones continue.

        Raises:
            ConfigError: the store cannot be used; nothing has changed.
        """
        async with self._changing:
            before = self._configured, self._groups
            self._configure({each.id: each for each in configured}, groups)
            try:
                await self._read_again()
            except BaseException:
                self._configure(*before)
                raise

    async def _read_again(self) -> None:
        made = await self.read()
        self.reloading = True
        try:
            self.take(made)
        finally:
            self.reloading = False

    def take(self, made: SubscriptionTable) -> None:
        """Replace the subscriptions by those that `read` returned."""
        self._all = {identity: subscription for identity, (subscription, _) in made.items()}
        self._resolved = {identity: resolved for identity, (_, resolved) in made.items()}
        self._settle()

    def _read(self) -> SubscriptionTable:
        kept = self._store.read()
        found = dict(self._configured)
        for identity, body in kept.subscriptions.items():
            if identity in self._configured:
                log.warning("stored subscription ignored, the configuration has the same id subscription=%s", identity)
                continue
            try:
                found[identity] = Subscription.model_validate({"principal": NOT_RECORDED, **body})
            except ValidationError as problem:
                log.error(
                    "stored subscription invalid, ignored subscription=%s error=%s",
                    identity,
                    sentence(explain(problem, Subscription)),
                )
        for identity, switch in kept.switches.items():
            configured = self._configured.get(identity)
            if configured is not None and configured.enabled == switch.configured:
                found[identity] = configured.model_copy(update={"enabled": switch.enabled})
        return {identity: self._prepared(each) for identity, each in found.items()}

    def _prepared(self, subscription: Subscription) -> tuple[Subscription, Subscription]:
        resolved = subscription.resolved(self._groups)
        resolved.prepare()
        return subscription, resolved

    def list(self) -> Collection[Subscription]:
        """Return all subscriptions, ordered by id."""
        return [self._all[identity] for identity in sorted(self._all)]

    def get(self, identity: str) -> Subscription:
        """Return a subscription.

        Raises:
            KeyError: unknown subscription.
        """
        return self._all[identity]

    def enabled(self) -> tuple[Subscription, ...]:
        """Return the enabled subscriptions, with groups replaced by their members."""
        return self._enabled

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after each change; return a function that removes it."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    async def put(self, subscription: Subscription) -> None:
        """Create or replace a subscription; see `change`."""
        await self.change(subscription.id, lambda _: subscription)

    async def change(self, identity: str, make: Callable[[Subscription | None], Subscription]) -> Subscription:
        """Replace a subscription by what ``make`` returns, without other changes in between.

        Args:
            identity: the subscription's id.
            make: called with the current one, or None; its exceptions are passed on.

        Returns:
            The subscription.

        Raises:
            ReadOnly: part of the configuration.
            ValueError: the values conflict, or a limit is reached.
            StoreFailed: the change could not be stored.
        """
        async with self._changing:
            if identity in self._configured:
                raise ReadOnly(f"the subscription {identity!r} is in the configuration file. Edit it there")
            present = self._all.get(identity)
            subscription = make(present)
            if present is not None and subscription.model_copy(update={"principal": present.principal}) == present:
                return present  # unchanged, so the owner remains
            await self._check(subscription)
            _, resolved = await asyncio.to_thread(self._prepared, subscription)
            await self._store.put(identity, values_of(subscription))
            self._all[identity], self._resolved[identity] = subscription, resolved
            self._settle()
            return subscription

    async def delete(self, identity: str) -> None:
        """Delete a subscription.

        Raises:
            KeyError: unknown subscription.
            ReadOnly: part of the configuration.
            StoreFailed: the change could not be stored.
        """
        async with self._changing:
            if identity in self._configured:
                raise ReadOnly(f"the subscription {identity!r} is in the configuration file. Disable it instead")
            if identity not in self._all:
                raise KeyError(identity)
            await self._store.delete(identity)
            del self._all[identity], self._resolved[identity]
            self._settle()

    async def set_enabled(self, identity: str, enabled: bool) -> Subscription:
        """Enable or disable a subscription, also a configured one; lasts until the configuration is edited.

        Raises:
            KeyError: unknown subscription.
            ValueError: it has no URL yet.
            StoreFailed: the change could not be stored.
        """
        async with self._changing:
            subscription = self._all[identity].model_copy(update={"enabled": enabled})
            if subscription == self._all[identity]:
                return subscription
            configured = self._configured.get(identity)
            if configured is None:
                await self._check(subscription)
                await self._store.put(identity, values_of(subscription))
            else:
                switched = EnabledSwitch(configured.enabled, enabled) if enabled != configured.enabled else None
                await self._store.switch(identity, switched)
            self._all[identity] = subscription
            self._resolved[identity] = self._resolved[identity].model_copy(update={"enabled": enabled})
            self._settle()
            return subscription

    async def _check(self, subscription: Subscription) -> None:
        if subscription.id not in self._all and len(self._all) - len(self._configured) >= MAX_MADE:
            raise ValueError(f"the limit of {MAX_MADE} subscriptions is reached")
        others = sum(each.pattern_count for each in self._all.values() if each.id != subscription.id)
        if others + subscription.pattern_count > MAX_PATTERNS_MADE + self._patterns_configured:
            raise ValueError(f"extensions: all subscriptions together would exceed {MAX_PATTERNS_MADE} patterns")
        options = sum(each.options_size for each in self._all.values() if each.id != subscription.id)
        if options + subscription.options_size > MAX_OPTIONS_MADE + self._options_configured:
            raise ValueError(
                f"options: all subscriptions together would exceed {MAX_OPTIONS_MADE} characters of options as JSON"
            )
        faults = [
            *target_contradictions(subscription),
            *subscription_contradictions(subscription, self._groups, may_be_empty=subscription.of_settings_api),
        ]
        try:
            self._gate.check(urlsplit(subscription.url).hostname or "", configured=False)
        except Denied as problem:
            faults.append(("url", str(problem)))
        if subscription.ca_file:
            try:
                await client_context(Trust(ca_file=subscription.ca_file, ca_dir=self._gate.ca_dir))
            except TrustError as problem:
                faults.append(("ca_file", str(problem)))
        if faults:
            raise ValueError("; ".join(f"{key}: {reason}" for key, reason in faults))

    def _settle(self) -> None:
        self._enabled = tuple(self._resolved[each.id] for each in self.list() if each.enabled)
        for listener in tuple(self._listeners):
            call_safely(listener)
