"""The parts of a configuration that a reload applies, and those that require a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from msgspec import Struct

from bridge.api.tokens import Tokens
from bridge.config import Config
from bridge.config.model import TABLES
from bridge.errors import ConfigError
from bridge.events.webhooks import trusted
from bridge.flows.flow_config import Flow, flows_of, signing_keys
from bridge.streams.subscription import DialplanRoute, Subscription, routes_of, subscriptions_of
from bridge.tls import TrustError

RELOADED_KEYS: Mapping[str, Collection[str]] = {
    "http": {"tokens"},
    "log": {"level"},
    "outbound": {"signing_secret"},
    "pbx": {"groups"},
}
"""Keys of sections that a reload applies, in addition to all lists of tables (``[[tokens]]``, ``[[flows]]``, ...)."""


class Configured(Struct, frozen=True):
    """The reloadable parts of a configuration, validated: nothing of an invalid configuration is applied.

    Args:
        config: the configuration.
        tokens: the valid tokens.
        subscriptions: the configured subscriptions.
        routes: the routes of the dialplan.
        flows: the flows with their programs.
        signing_keys: the signing keys of flows' requests, by the flow's id.
    """

    config: Config
    tokens: Tokens
    subscriptions: tuple[Subscription, ...]
    routes: tuple[DialplanRoute, ...]
    flows: tuple[Flow, ...]
    signing_keys: Mapping[str, bytes]

    @classmethod
    async def of(cls, config: Config) -> Configured:
        """Validate a configuration; reads files and compiles patterns in a thread.

        Raises:
            ConfigError: a route, a subscription, a flow or a webhook is invalid.
        """
        try:
            await trusted(config.webhooks)
        except TrustError as problem:
            raise ConfigError("webhooks", str(problem)) from None
        return await asyncio.to_thread(
            lambda: cls(
                config,
                Tokens.of(config.http, config.tokens),
                subscriptions_of(config),
                routes_of(config),
                flows_of(config),
                signing_keys(config),
            )
        )


def waiting_for_restart(running: Config, read: Config) -> list[str]:
    """Return the keys that differ and that a reload does not apply.

    Args:
        running: the configuration that the process started with.
        read: the one in the file now.
    """
    changed = []
    for section in Config.model_fields.keys() - TABLES.keys():
        before, now = getattr(running, section), getattr(read, section)
        reloaded = RELOADED_KEYS.get(section, ())
        for key in type(before).model_fields:
            if key not in reloaded and getattr(before, key) != getattr(now, key):
                changed.append(f"{section}.{key}")
    return sorted(changed)
