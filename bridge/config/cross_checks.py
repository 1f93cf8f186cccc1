"""Validation across keys: settings that are valid individually, but not together."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from bridge import templates
from bridge.config.agent_limits import BUILT_IN_TOOLS
from bridge.config.agent_tools import ToolConfig
from bridge.config.flows import FlowConfig
from bridge.config.model import Config
from bridge.config.outbound import OutboundConfig
from bridge.config.privacy import SOUND, TONE
from bridge.config.sections import AriConfig, HttpConfig
from bridge.config.streams import UUID_PREFIX, RouteConfig, StreamsConfig, SubscriptionConfig, TargetConfig
from bridge.config.tokens import RESERVED_TOKEN_IDS
from bridge.config.values import is_loopback, is_wildcard
from bridge.config.vendors import RESERVED_IDS, vendor_contradictions
from bridge.config.webhooks import WebhookConfig
from bridge.errors import ConfigError
from bridge.files import read_regular
from bridge.validation import suggestion

MAX_PORT = 65535

Table = TypeVar("Table", bound=SubscriptionConfig | RouteConfig | WebhookConfig | FlowConfig | ToolConfig)


def contradictions(config: Config) -> Iterator[ConfigError]:
    """Yield the contradictions between settings."""
    yield from _http_contradictions(config.http)
    yield from token_contradictions(config)
    yield from _audiosocket_contradictions(config)
    yield from _ari_contradictions(config.ari)
    yield from _outbound_contradictions(config.outbound)
    yield from _streams_contradictions(config.streams)
    yield from vendor_contradictions(config, [flow.id for flow in config.flows])
    yield from _cluster_contradictions(config)
    yield from _privacy_contradictions(config)
    yield from _table_contradictions("subscriptions", config.subscriptions, partial(_subscription, config))
    yield from _table_contradictions("dialplan", config.dialplan, partial(_route, config))
    yield from _table_contradictions("webhooks", config.webhooks, _webhook)
    yield from _table_contradictions("flows", config.flows, _flow)
    yield from _table_contradictions("tools", config.tools, lambda tool: _unplayable(config, "filler", tool.filler))


def _privacy_contradictions(config: Config) -> Iterator[ConfigError]:
    """Yield announcements that cannot be played: parties would be streamed or recorded without one."""
    for key, announcement in config.privacy.announcements.items():
        for _, reason in _unplayable(config, key, announcement):
            yield ConfigError(f"privacy.{key}", reason)


def _unplayable(config: Config, key: str, announcement: str) -> Iterator[tuple[str, str]]:
    """Yield why an announcement cannot be played."""
    if announcement.startswith(SOUND):
        if not config.speech.sounds_dir and "://" not in announcement:
            yield key, "names a file below speech.sounds_dir, which is not set"
    elif announcement not in ("", TONE) and not config.speech.command:
        yield key, "requires speech, and speech.command is empty"


def _table_contradictions(
    name: str, tables: Iterable[Table], faults_of: Callable[[Table], Iterable[tuple[str, str]]]
) -> Iterator[ConfigError]:
    """Yield ids that two tables of a list share, authorities that cannot be used, and mistakes within each table."""
    seen: dict[str, int] = {}
    for index, table in enumerate(tables):
        key = f"{name}.{index}"
        if table.id in seen:
            yield ConfigError(f"{key}.id", f"{table.id!r} is also the id of {name}.{seen[table.id]}")
        seen.setdefault(table.id, index)
        for wrong, reason in (*faults_of(table), *_ca_file_contradictions(table.ca_file)):
            yield ConfigError(f"{key}.{wrong}", reason)


def _subscription(config: Config, subscription: SubscriptionConfig) -> Iterator[tuple[str, str]]:
    if subscription.id in RESERVED_IDS:
        yield "id", f"{subscription.id!r} is reserved for the vendor's settings API"
    yield from target_contradictions(subscription)
    yield from _agent(config, subscription)
    yield from subscription_contradictions(subscription, config.pbx.groups)


def _route(config: Config, route: RouteConfig) -> Iterator[tuple[str, str]]:
    if route.twiml_url:
        yield from _documents(config, route)
        return
    for key in ("twiml_fallback_url", "status_callback"):
        if getattr(route, key):
            yield key, "requires twiml_url"
    if route.url and not route.dialect:
        yield "dialect", "is missing; expected the name of a wire format"
    yield from target_contradictions(route)
    yield from _agent(config, route)
    acting = [name for name in route.agent.tools if name in BUILT_IN_TOOLS]
    if acting and route.match.startswith(UUID_PREFIX):
        yield "agent.tools", f"{acting[0]} requires Stasis(): a call of AudioSocket() cannot be controlled"


def _agent(config: Config, target: TargetConfig) -> Iterator[tuple[str, str]]:
    """Yield prompts and tools of a model that do not exist or cannot work."""
    agent, own = target.agent, {tool.id for tool in config.tools}
    for name in agent.tools:
        if name not in BUILT_IN_TOOLS and name not in own:
            yield (
                "agent.tools",
                f"{name[:64]!r} is neither a built-in tool nor the id of a table [[tools]]"
                + suggestion(name, [*BUILT_IN_TOOLS, *sorted(own)]),
            )
    for key in ("reconnect_prompt", "failure_prompt"):
        yield from _unplayable(config, f"agent.{key}", getattr(agent, key))
    if "transfer" in agent.tools and agent.transfer_mode != "blind":
        yield from _unplayable(config, "agent.transfer_prompt", agent.transfer_prompt)
        if agent.transfer_mode == "attended" and not config.speech.command:
            yield "agent.transfer_mode", "requires speech, and speech.command is empty"


def _webhook(webhook: WebhookConfig) -> Iterator[tuple[str, str]]:
    if webhook.retry_last_s < webhook.retry_first_s:
        yield "retry_last_s", "is shorter than retry_first_s"


def _flow(flow: FlowConfig) -> Iterator[tuple[str, str]]:
    given = [name for name in ("actions", "file", "url") if getattr(flow, name)]
    if not given:
        yield "actions", "is empty, and so are file and url; set one of them"
    elif len(given) > 1:
        yield given[1], f"is set, and so is {given[0]}; set only one of actions, file and url"


def _documents(config: Config, route: RouteConfig) -> Iterator[tuple[str, str]]:
    """Yield contradictions in a route whose server answers calls with documents."""
    if route.url:
        yield "url", "is set, and so is twiml_url; set only one of them"
    else:
        for key in ("dialect", "options", "agent"):
            if getattr(route, key) != RouteConfig.model_fields[key].get_default(call_default_factory=True):
                yield (
                    key,
                    "has no effect with twiml_url, whose documents name the stream; remove it, or use url instead",
                )
    if route.match.startswith(UUID_PREFIX):
        yield "match", "names the UUID of an AudioSocket connection; such a call cannot run documents of twiml_url"
    if route.headers:
        yield "auth_value", "is not sent to twiml_url, whose requests are authenticated by a signature; remove it"
    if any(flow.id == route.id for flow in config.flows):
        yield "id", f"{route.id!r} is also the id of a flow"
    for key in ("twiml_url", "twiml_fallback_url", "status_callback"):
        try:
            templates.check_url(getattr(route, key), (*templates.FACTS, *route.channel_variables))
        except ValueError as problem:
            yield key, str(problem)


def target_contradictions(target: TargetConfig) -> Iterator[tuple[str, str]]:
    """Yield contradictions in the address of an application: key and reason."""
    if not target.url and getattr(target, "enabled", True):
        yield "url", "is empty; expected a ws:// or wss:// URL"


def _ca_file_contradictions(ca_file: str) -> Iterator[tuple[str, str]]:
    if not ca_file:
        return
    from bridge.tls import Trust, TrustError, build_context  # few configurations need it

    try:
        build_context(Trust(ca_file=ca_file))
    except TrustError as problem:
        yield "ca_file", str(problem)


def subscription_contradictions(
    subscription: SubscriptionConfig, groups: Mapping[str, tuple[str, ...]], *, may_be_empty: bool = False
) -> Iterator[tuple[str, str]]:
    """Yield the missing settings of a subscription: key and reason."""
    if not (may_be_empty or subscription.extensions or subscription.trunks or subscription.dids):
        yield (
            "extensions",
            'is empty, and so are trunks and dids: no call would match; for every call of an extension: ["*"]',
        )
    for pattern in subscription.extensions:
        if pattern.startswith("@") and pattern[1:] not in groups:
            there = ", ".join(sorted(groups)) or "none"
            yield "extensions", f"{pattern!r} is not a group; pbx.groups has {there}"
            return


def _streams_contradictions(streams: StreamsConfig) -> Iterator[ConfigError]:
    if streams.retry_last_s < streams.retry_first_s:
        yield ConfigError("streams.retry_last_s", "is shorter than streams.retry_first_s")


def _cluster_contradictions(config: Config) -> Iterator[ConfigError]:
    cluster = config.cluster
    if not cluster.enabled:
        return
    if find_spec("redis") is None:
        yield ConfigError("cluster.store", "needs the Redis client: pip install 'asterisk-bridge[cluster]'")
    if cluster.pbx_is_ambiguous(config.ari):
        yield ConfigError(
            "cluster.pbx",
            "is empty, and ari.url is a loopback address, which identifies no Asterisk to other nodes;"
            " set the same name at all nodes of this Asterisk",
        )
    yield from (ConfigError(f"cluster.{key}", reason) for key, reason in _ca_file_contradictions(cluster.ca_file))


def token_contradictions(config: Config) -> Iterator[ConfigError]:
    """Yield contradictions between ``http.authentication``, ``http.tokens`` and ``[[tokens]]``."""
    if not config.http.authentication:
        for key in [name for name, given in (("http.tokens", config.http.tokens), ("tokens", config.tokens)) if given]:
            yield ConfigError("http.authentication", f"is false, but {key} is set; remove one of them")
    seen: dict[str, int] = {}
    hashes: dict[str, int] = {}
    for index, token in enumerate(config.tokens):
        key = f"tokens.{index}"
        if token.id in seen:
            yield ConfigError(f"{key}.id", f"{token.id!r} is also the id of tokens.{seen[token.id]}")
        if token.hash in hashes:
            yield ConfigError(f"{key}.hash", f"is also the hash of tokens.{hashes[token.hash]}; define each token once")
        seen.setdefault(token.id, index)
        hashes.setdefault(token.hash, index)
        if token.id in RESERVED_TOKEN_IDS or re.fullmatch(r"http-[0-9]+", token.id):
            yield ConfigError(f"{key}.id", f"{token.id!r} is reserved in logs; choose another id")
        wide = [scope for scope in token.scopes if scope in ("admin", "flows", "subscriptions")]
        if token.limited and wide:
            yield ConfigError(
                f"{key}.scopes",
                f"has {wide[0]}, which gives access to every call; remove it, or extensions, trunks and conferences",
            )


def _http_contradictions(http: HttpConfig) -> Iterator[ConfigError]:
    if not http.authentication and not is_loopback(http.host):
        yield ConfigError(
            "http.authentication",
            f"is false, but http.host {http.host!r} is reachable from other machines: anyone there could listen to"
            ' calls. Remove it or set http.host = "127.0.0.1"',
        )
    if not http.authentication and http.allowed_origins:
        yield ConfigError(
            "http.allowed_origins",
            "needs tokens, and http.authentication is false: any script of such a page could control the PBX; set"
            " http.authentication to true",
        )
    yield from tls_contradictions(http)


def tls_contradictions(http: HttpConfig) -> Iterator[ConfigError]:
    """Yield problems of certificate, key and client authorities of the HTTP port; reads their files."""
    if bool(http.tls_certificate) != bool(http.tls_key):
        missing, present = ("tls_key", "tls_certificate") if http.tls_certificate else ("tls_certificate", "tls_key")
        yield ConfigError(f"http.{missing}", f"is missing; http.{present} is set, and both are required")
        return
    if not http.tls_certificate:
        if http.tls_client_ca:
            yield ConfigError("http.tls_client_ca", "needs http.tls_certificate and http.tls_key")
        return
    import ssl

    from bridge.tls import MAX_CA_FILE_BYTES

    for key in ("tls_certificate", "tls_key"):
        try:
            read_regular(getattr(http, key), MAX_CA_FILE_BYTES)
        except OSError as problem:
            yield ConfigError(f"http.{key}", f"{getattr(http, key)!r} cannot be read: {problem.strerror}")
            return
    try:
        # The password callback prevents OpenSSL from prompting for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(http.tls_certificate, http.tls_key, lambda: "")
    except (ssl.SSLError, ValueError) as problem:
        yield ConfigError(
            "http.tls_certificate",
            f"and http.tls_key cannot be used together ({getattr(problem, 'reason', None) or problem});"
            " expected a PEM certificate chain and its unencrypted PEM key",
        )
    for _, reason in _ca_file_contradictions(http.tls_client_ca):
        yield ConfigError("http.tls_client_ca", reason)


def _audiosocket_contradictions(config: Config) -> Iterator[ConfigError]:
    audiosocket, http = config.audiosocket, config.http
    if is_wildcard(audiosocket.advertised_host):
        yield ConfigError(
            "audiosocket.advertised_host",
            f"{audiosocket.advertised_host!r} cannot be dialed; expected the address that Asterisk connects to",
        )
    elif is_wildcard(audiosocket.bind_host) and not audiosocket.advertised_host:
        yield ConfigError(
            "audiosocket.advertised_host",
            f"is empty, but audiosocket.bind_host is {audiosocket.bind_host!r}, which cannot be dialed; expected the"
            " address at which Asterisk reaches this host",
        )
    same_host = http.host == audiosocket.bind_host or is_wildcard(http.host) or is_wildcard(audiosocket.bind_host)
    last = audiosocket.bind_port + config.workers.count - 1
    if http.port and http.port == audiosocket.bind_port and same_host:
        yield ConfigError("audiosocket.bind_port", f"{http.port} is also http.port; they need two ports")
    elif http.port and audiosocket.bind_port and audiosocket.bind_port < http.port <= last and same_host:
        yield ConfigError(
            "workers.count",
            f"{config.workers.count} workers listen on the ports {audiosocket.bind_port} to {last}, from"
            f" audiosocket.bind_port on, and {http.port} is http.port",
        )
    for key in ("bind_port", "advertised_port"):
        first = getattr(audiosocket, key)
        if first and first + config.workers.count - 1 > MAX_PORT:
            yield ConfigError(
                f"audiosocket.{key}", f"{first} leaves too few ports for {config.workers.count} workers (workers.count)"
            )


def _ari_contradictions(ari: AriConfig) -> Iterator[ConfigError]:
    if not ari.user:
        yield ConfigError("ari.user", "is empty; expected the name of a user in Asterisk's ari.conf")
    yield from (ConfigError(f"ari.{key}", reason) for key, reason in _ca_file_contradictions(ari.ca_file))
    if not ari.password.get_secret_value():
        yield ConfigError("ari.password", "is empty; expected that user's password in Asterisk's ari.conf")


def _outbound_contradictions(outbound: OutboundConfig) -> Iterator[ConfigError]:
    if outbound.ca_dir and not Path(outbound.ca_dir).is_dir():
        yield ConfigError("outbound.ca_dir", f"{outbound.ca_dir!r} is not a directory")
