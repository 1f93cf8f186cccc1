"""The token that the first start creates if none is configured, stored in a file that only its owner can read."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from bridge.config.loading import default_state_file
from bridge.config.model import Config
from bridge.config.values import check_token
from bridge.errors import ConfigError

FILE_NAME = "token"
NO_FILE = ("", ":memory:")
"""Values of ``streams.state_file`` that are not a file."""


def token_file(config: Config, environ: Mapping[str, str]) -> Path:
    """Return the path of the token's file: beside the state file."""
    state = config.streams.state_file
    return Path(default_state_file(environ) if state in NO_FILE else state).parent / FILE_NAME


def needs_token(config: Config) -> bool:
    """Return whether authentication is on, but no token configured."""
    return config.http.authentication and not config.http.tokens and not config.tokens


def with_token(config: Config, environ: Mapping[str, str]) -> Config:
    """Return the configuration with the token of the first start, which is created if it does not exist yet.

    Args:
        config: the configuration; returned unchanged if it needs no such token.
        environ: the environment (``os.environ``).

    Raises:
        ConfigError: the token can be neither read nor created.
    """
    if not needs_token(config):
        return config
    path = token_file(config, environ)
    try:
        token = _read(path) or _create(path)
    except OSError as problem:
        raise ConfigError(
            "http.tokens",
            f"is empty, and a token cannot be stored in {path}: {problem.strerror}. Set http.tokens (openssl rand -hex"
            " 24), or set streams.state_file or the variable STATE_DIRECTORY to a writable directory",
        ) from None
    http = config.http.model_copy(update={"tokens": (SecretStr(token),)})
    return config.model_copy(update={"http": http})


def existing_token(config: Config, environ: Mapping[str, str]) -> str:
    """Return the token that an earlier start created; "" if there is none, or it cannot be read."""
    try:
        return _read(token_file(config, environ)) if needs_token(config) else ""
    except (OSError, ConfigError):
        return ""


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            token = file.read(2000).strip()
        check_token(SecretStr(token))
    except FileNotFoundError:
        return ""
    except ValueError as problem:
        raise ConfigError(
            str(path), f"does not contain a token: it {problem}; remove it, and a new one is created"
        ) from None
    return token


def _create(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    # Atomically: another process may read it at the same time.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
        os.link(unfinished, path)
    except FileExistsError:
        return _read(path)
    finally:
        unfinished.unlink()
    return token
