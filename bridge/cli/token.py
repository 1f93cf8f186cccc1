"""``asterisk-bridge token create``: prints a new token, and its table for the configuration. Nothing is stored."""

from __future__ import annotations

import argparse

from pydantic import ValidationError

from bridge.api.tokens import hash_of, new_token
from bridge.cli.toml import to_toml
from bridge.config import Config, TokenConfig
from bridge.config.cross_checks import token_contradictions
from bridge.config.tokens import HASH_PREFIX
from bridge.errors import ConfigError
from bridge.validation import explain


def create(options: argparse.Namespace) -> int:
    """Print a new token, and its table for the configuration.

    Args:
        options: arguments of the command.

    Returns:
        The exit code.

    Raises:
        ConfigError: the arguments are not valid in such a table.
    """
    token = new_token()
    table: dict[str, object] = {
        "id": options.id,
        "hash": HASH_PREFIX + hash_of(token),
        "scopes": tuple(dict.fromkeys(options.scope)),
    }
    table |= {"expires": options.expires} if options.expires else {}
    for key in ("extensions", "trunks", "conferences", "caller_ids"):
        table |= {key: tuple(getattr(options, key))} if getattr(options, key) else {}
    table |= {"max_calls": options.max_calls} if options.max_calls else {}
    try:
        checked = TokenConfig.model_validate(table)
    except ValidationError as problem:
        raise ConfigError(*next(explain(problem, TokenConfig, described=True))) from None
    for error in token_contradictions(Config(tokens=(checked,))):
        raise error
    lines = [f"{key} = {to_toml(value)}" for key, value in table.items()]
    print("# The token. It is shown only now; give it to the application:")
    print(f"# {token}")
    print("# For the configuration file; SIGHUP reloads it:")
    print("\n".join(["[[tokens]]", *lines]))
    return 0
