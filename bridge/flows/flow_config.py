"""The flows of the configuration (``[[flows]]``): checked at start, except those fetched from a server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bridge.config import Config, ConfigErrors, FlowConfig
from bridge.config.streams import RouteConfig
from bridge.config.webhooks import signing_key
from bridge.errors import ConfigError
from bridge.files import read_regular
from bridge.flows.action_settings import ActionSettings
from bridge.flows.program import InvalidFlow, Program
from bridge.flows.syntax import parse
from bridge.json_shape import strict_json
from bridge.patterns import Patterns

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
    """Return the keys that sign requests of flows, by the flow's id; ``""`` is the key of all other flows."""
    secrets = {flow.id: flow.secret for flow in config.flows} | {"": config.outbound.signing_secret}
    return {flow_id: signing_key(text) for flow_id, secret in secrets.items() if (text := secret.get_secret_value())}


def flows_of(config: Config) -> tuple[Flow, ...]:
    """Return the configured flows, in their order.

    Raises:
        ConfigError: actions are invalid, or a file cannot be read.
    """
    from bridge.flows.checking import check_possible  # imports all actions, as parsing does

    settings = ActionSettings.of(config)
    errors: list[ConfigError] = []
    made: list[Flow] = []
    for index, each in enumerate(config.flows):
        try:
            program = _program(each)
            if program is not None:
                check_possible(program, settings)
            made.append(Flow(each, program))
        except InvalidFlow as refused:
            errors += [ConfigError(f"flows.{index}", str(each)) for each in refused.errors]
        except _NoFile as problem:
            errors.append(ConfigError(f"flows.{index}.file", str(problem)))
    if errors:
        raise errors[0] if len(errors) == 1 else ConfigErrors(errors)
    return (*made, *(_of_route(route) for route in config.dialplan if route.twiml_url))


def _of_route(route: RouteConfig) -> Flow:
    """Return the flow of a route whose server answers calls with documents."""
    config = FlowConfig(
        id=route.id,
        match=Patterns((route.match,)),
        url=route.twiml_url,
        method=route.twiml_method,
        syntax="twiml",
        then=route.then,
        verify_tls=route.verify_tls,
        ca_file=route.ca_file,
    )
    return Flow(
        config,
        _document(
            config,
            fallback_url=route.twiml_fallback_url,
            fallback_method=route.twiml_fallback_method,
            status_callback=route.status_callback,
            status_callback_method=route.status_callback_method,
            channel_variables=list(route.channel_variables),
        ),
    )


def _document(config: FlowConfig, **options: Any) -> Program:
    """Return the program that requests a call's first document."""
    from bridge.flows import twiml  # imports all actions

    program = twiml.entry(
        config.url,
        config.method,
        continues=config.then == "continue",
        verify_tls=config.verify_tls,
        ca_file=config.ca_file,
        **options,
    )
    return replace(program, configured=True)


class _NoFile(Exception):
    pass


def _program(config: FlowConfig) -> Program | None:
    if config.url:
        return _document(config) if config.syntax == "twiml" else None
    try:
        return replace(parse(_file_json(config.file) if config.file else list(config.actions)), configured=True)
    except OSError as problem:
        raise _NoFile(f"{config.file!r} cannot be read: {problem.strerror}") from None
    except InvalidFlow:
        raise
    except ValueError as problem:
        raise _NoFile(f"{config.file!r} is not valid JSON: {problem}") from None


def _file_json(path: str) -> Any:
    content = read_regular(path, MAX_FILE_BYTES)
    return strict_json(content.decode(json.detect_encoding(content)))
