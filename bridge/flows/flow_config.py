"""The flows of the configuration (``[[flows]]``): checked at start, except those fetched from a server."""

from __future__ import annotations

import json
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from bridge.config import Config, ConfigErrors, FlowConfig
from bridge.config.webhooks import signing_key
from bridge.errors import ConfigError
from bridge.files import read_regular
from bridge.flows.action_settings import ActionSettings
from bridge.flows.program import InvalidFlow, Program
from bridge.flows.syntax import parse

MAX_FILE_BYTES = 1024 * 1024


class Flow(Struct, frozen=True):
    """One flow; ``program`` is None if a server returns the actions for each call."""

    config: FlowConfig
    program: Program | None

    @property
    def id(self) -> str:
        """The flow's id."""
        return self.config.id

    def matches(self, numbers: Sequence[str]) -> bool:
        """Return whether a call that arrived for one of these numbers (or arguments) runs this flow."""
        return any(self.config.match.match(number) for number in numbers if number)


def signing_keys(config: Config) -> dict[str, bytes]:
    """Return the keys that sign requests of flows, by the flow's id; ``""``: of all others."""
    secrets = {flow.id: flow.secret for flow in config.flows} | {"": config.outbound.signing_secret}
    return {flow_id: signing_key(text) for flow_id, secret in secrets.items() if (text := secret.get_secret_value())}


def flows_of(config: Config) -> tuple[Flow, ...]:
    """Return the configured flows, in their order.

    Raises:
        ConfigError: actions are invalid, or a file cannot be read.
    """
    from bridge.flows.checking import check_possible  # imports all actions, as parsing does

    facilities = ActionSettings.of(config)
    errors: list[ConfigError] = []
    made: list[Flow] = []
    for index, each in enumerate(config.flows):
        try:
            program = _program(each)
            if program is not None:
                check_possible(program, facilities)
            made.append(Flow(each, program))
        except InvalidFlow as refused:
            errors += [ConfigError(f"flows.{index}", str(each)) for each in refused.errors]
        except _NoFile as problem:
            errors.append(ConfigError(f"flows.{index}.file", str(problem)))
    if errors:
        raise errors[0] if len(errors) == 1 else ConfigErrors(errors)
    return tuple(made)


class _NoFile(Exception):
    pass


def _program(config: FlowConfig) -> Program | None:
    if config.url:
        return None
    try:
        actions = json.loads(read_regular(config.file, MAX_FILE_BYTES)) if config.file else list(config.actions)
        return replace(parse(actions), configured=True)
    except OSError as problem:
        raise _NoFile(f"{config.file!r} cannot be read: {problem.strerror}") from None
    except InvalidFlow:
        raise
    except (ValueError, RecursionError) as problem:
        raise _NoFile(f"{config.file!r} is not valid JSON: {problem}") from None
