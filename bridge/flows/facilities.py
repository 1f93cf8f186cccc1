"""What actions may need of the configuration, beside what each flow names itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from bridge.calls.facts import Naming
from bridge.config import Config
from bridge.control.dial_policy import DialPolicy


@dataclass(frozen=True, slots=True)
class Facilities:
    """What actions can use here.

    Args:
        context: ``calling.context``.
        policy: which destinations can be dialed.
        flows: ids of the configured flows.
        voxology_flow: ``voxology.flow``.
        sounds_dir: ``speech.sounds_dir``.
        speech_trouble: why no text can be spoken; None: it can.
    """

    context: str
    policy: DialPolicy
    flows: Collection[str]
    voxology_flow: str
    sounds_dir: str
    speech_trouble: Callable[[], str | None]

    @classmethod
    def of(cls, config: Config) -> Facilities:
        """Return what a configuration provides, whatever this machine has installed."""
        return cls(
            config.calling.context,
            DialPolicy(config.calling, Naming(**config.pbx.model_dump(exclude={"groups"})), time.monotonic),
            frozenset(flow.id for flow in config.flows),
            config.voxology.flow,
            config.speech.sounds_dir,
            lambda: None if config.speech.command else "speech.command is empty: no program is configured that speaks",
        )
