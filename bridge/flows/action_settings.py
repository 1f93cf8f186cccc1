"""Configuration values that actions need besides their own options."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec import Struct

from bridge.config import Config
from bridge.control.dial_policy import DialPolicy
from bridge.errors import ConfigError
from bridge.streams.subscription import DialplanRoute, routes_of


class ActionSettings(Struct, frozen=True):
    """Configuration values that actions use.

    Args:
        context: ``calling.context``.
        policy: which destinations can be dialed.
        flows: ids of the configured flows.
        voxology_flow: ``voxology.flow``.
        sounds_dir: ``speech.sounds_dir``.
        speech_trouble: returns why text-to-speech is unavailable; None if it is available.
        models: routes of the dialplan to models, by id.
    """

    context: str
    policy: DialPolicy
    flows: Collection[str]
    voxology_flow: str
    sounds_dir: str
    speech_trouble: Callable[[], str | None]
    models: Mapping[str, DialplanRoute] = {}

    @classmethod
    def of(cls, config: Config) -> ActionSettings:
        """Return the values of a configuration, independent of the programs installed on this machine."""
        return cls(
            config.calling.context,
            DialPolicy(config.calling, config.pbx, time.monotonic),
            frozenset(flow.id for flow in config.flows),
            config.voxology.flow,
            config.speech.sounds_dir,
            lambda: None if config.speech.command else "speech.command is empty: text-to-speech is not configured",
            _models(config),
        )


def models_among(routes: Iterable[DialplanRoute]) -> Mapping[str, DialplanRoute]:
    """Return the routes to models, by id."""
    return {route.id: route for route in routes if route.is_model}


def _models(config: Config) -> Mapping[str, DialplanRoute]:
    try:
        return models_among(routes_of(config))
    except ConfigError:
        return {}  # reported where the routes themselves are checked
