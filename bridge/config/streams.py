"""The sections about automatic streaming: which calls, to which application, in which dialect.

They validate what needs no other section. Options of dialects are validated where dialects are known
(``bridge.streams.subscription``).
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bridge.config.agents import AgentConfig
from bridge.config.endpoint import Endpoint, HeaderName, Switch
from bridge.config.values import FilePath, PatternList, Section, Slug, Text, as_tuple, matching, split_url
from bridge.outbound.headers import check_header_value
from bridge.patterns import Patterns, check_pattern

UUID_PREFIX = "uuid:"
NOT_KEPT = ("", ":memory:")
"""Values of `StreamsConfig.state_file` with which nothing is stored."""

_GROUP_NAME = matching(r"[A-Za-z0-9_.-]{1,63}", "must be 1 to 63 letters, digits, dots, dashes and underscores")


def check_stream_url(url: str) -> str:
    """Check a WebSocket URL without credentials; "" is accepted, for a disabled subscription without a URL yet."""
    if not url:
        return url
    parts = split_url(
        url, ("ws", "wss"), "wss://app.example.org/calls", "put the credential into auth_key and auth_value"
    )
    if parts.fragment:
        raise ValueError("contains a fragment (#...), which a WebSocket URL cannot have (RFC 6455 section 3)")
    return url


def _check_member(pattern: str) -> str:
    if pattern.startswith("@"):
        raise ValueError(f"{pattern[:64]!r} is a group; groups contain extensions, not groups")
    return check_pattern(pattern)


def _check_match(match: str) -> str:
    if not match.startswith(UUID_PREFIX):
        return check_pattern(match)
    if not re.fullmatch(r"[0-9a-f*?\[\]!-]{1,80}", match.removeprefix(UUID_PREFIX)):
        raise ValueError(f"{match[:60]!r} must have a lowercase UUID after {UUID_PREFIX!r}, with * and ? as wildcards")
    return match


def _check_http_url(url: str) -> str:
    if url:
        split_url(url, ("http", "https"), "https://app.example.org/voice", "requests are authenticated by a signature")
    return url


HttpUrl = Annotated[str, AfterValidator(_check_http_url), Field(description="an http:// or https:// URL")]
Method = Annotated[Literal["POST", "GET"], Field(description='"POST" or "GET"')]
_Subprotocol = Annotated[
    str, matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,63}", "must be a subprotocol: letters, digits, dots and dashes")
]
_Variable = Annotated[
    str,
    matching(
        r"(?!(?:call_id|caller|callee|did|direction)$)[A-Za-z_][A-Za-z0-9_]{0,79}",
        "must be the name of a channel variable, without a function, and none of the names that templates have",
    ),
]
WindowMs = Annotated[int, Field(ge=0, le=60_000, description="a number of milliseconds from 0 to 60000")]


class PbxConfig(Section):
    """The PBX's names, for the facts of calls. All patterns are those of ``fnmatch``: ``*``, ``?``, ``[0-9]``."""

    trunks: PatternList = Patterns()
    """Endpoints that are trunks (`provider-1` of the channel `PJSIP/provider-1-0000002a`)."""
    extensions: PatternList = Patterns()
    """Endpoints that are extensions. Both lists empty: a name that begins with two digits is an extension, any other a
    trunk. One list only: what it does not name is the other."""
    trunk_contexts: PatternList = Patterns(
        ("from-trunk", "from-trunk-*", "from-pstn", "from-pstn-*", "from-dahdi", "from-zaptel")
    )
    """Dialplan contexts in which the channels of trunks begin."""
    ivr_contexts: PatternList = Patterns(("ivr", "ivr-*"))
    """Contexts of menus."""
    queue_contexts: PatternList = Patterns(("ext-queues",))
    """Contexts that lead into a queue."""
    ringgroup_contexts: PatternList = Patterns(("ext-group",))
    """Contexts that ring a group."""
    extension_contexts: PatternList = Patterns(("ext-local", "ext-findmefollow", "followme-*"))
    """Contexts that ring one person, also at several phones."""
    paging_contexts: PatternList = Patterns(("ext-paging", "app-pagegroups"))
    """Contexts that page."""
    cfd_contexts: PatternList = Patterns()
    """Contexts of a call flow designer."""
    groups: dict[
        Annotated[str, _GROUP_NAME],
        Annotated[tuple[Annotated[str, AfterValidator(_check_member)], ...], BeforeValidator(as_tuple)],
    ] = Field(default_factory=dict, description='a table of lists, for example {sales = ["1001", "20*"]}')
    """Groups of extensions. `"@sales"` in a subscription means every extension of the group `sales`."""


class StreamsConfig(Section):
    """Connections to applications, and the storage of their subscriptions."""

    connect_timeout_s: Annotated[float, Field(ge=0.1, le=60, description="a number of seconds from 0.1 to 60")] = 5.0
    """How long connecting to an application may take, TLS and handshake included."""
    retry_first_s: Annotated[float, Field(ge=0.05, le=60, description="a number of seconds from 0.05 to 60")] = 0.5
    """Wait before the first new attempt; doubled before each further one."""
    retry_last_s: Annotated[float, Field(ge=0.05, le=600, description="a number of seconds from 0.05 to 600")] = 5.0
    """Longest wait between two attempts, unless the server requests a longer one (`Retry-After`, at most 300 s)."""
    window_ms: WindowMs = 5000
    """Recent audio that is kept while the connection is unavailable."""
    state_file: FilePath = ""
    """SQLite file for subscriptions created over HTTP; mode 0600, since it holds credentials. Empty: `state.sqlite3` in
    `$STATE_DIRECTORY` (systemd), else `$XDG_STATE_HOME/asterisk-bridge`, else `~/.local/state/asterisk-bridge`, else
    `/var/lib/asterisk-bridge`; `check` prints which. `":memory:"` keeps nothing."""


class TargetConfig(Endpoint):
    """An application: its address, credential and dialect."""

    id: Slug
    """Names it in the API, in events and logs, and in environment variables."""
    url: Annotated[str, AfterValidator(check_stream_url), Field(description="a ws:// or wss:// URL")]
    """The WebSocket of the application; no user name or password in it."""
    dialect: Text
    """Name of the wire format; an unknown name is rejected with a list of all."""
    options: dict[str, Any] = Field(default_factory=dict, description="a table")
    """The dialect's options; they are checked at the start."""
    sample_rate: Annotated[int | None, Field(ge=8000, le=192_000, description="a sampling rate in Hz")] = None
    """Shorthand for `rate` in `options`."""
    tracks: Text = "auto"
    """Layout of tracks: `"parties"`; `"near"`, `"far"`, `"both"`; `"inbound_track"`, `"outbound_track"`,
    `"both_tracks"`; `"mix"`; `"caller"`. `"auto"`: the usual one of the dialect."""
    window_ms: Annotated[WindowMs | None, Field(description="a number of milliseconds from 0 to 60000")] = None
    """Overrides `streams.window_ms`."""
    agent: AgentConfig = Field(default_factory=AgentConfig, description="a table")
    """How a model is configured; only for dialects of models."""

    extra_headers: Annotated[
        dict[HeaderName, Annotated[str, AfterValidator(check_header_value), Field(description="a string")]],
        Field(max_length=20, description='a table of strings, for example {X-Caller = "{caller}"}'),
    ] = Field(default_factory=dict, repr=False)
    """Further headers of the handshake. Values may use templates, like `url` and `options.parameters`."""
    auth_value_file: FilePath = ""
    """File with the credential, instead of `auth_value`; it is read for each connection, so it may be replaced."""
    subprotocols: Annotated[tuple[_Subprotocol, ...], BeforeValidator(as_tuple), Field(max_length=10)] = ()
    """WebSocket subprotocols to offer, instead of the dialect's."""
    client_certificate: FilePath = ""
    """PEM file with a certificate for servers that require one, and its key unless `client_key` has it."""
    client_key: FilePath = ""
    """PEM file with the key of `client_certificate`, without a passphrase."""
    channel_variables: Annotated[tuple[_Variable, ...], BeforeValidator(as_tuple), Field(max_length=20)] = ()
    """Channel variables that the application may receive: as parameters in its first message, and in templates."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.auth_value_file and self.auth_value.get_secret_value():
            raise ValueError("auth_value_file: conflicts with auth_value")
        if self.client_key and not self.client_certificate:
            raise ValueError("client_key: requires client_certificate")
        names = [name.lower() for name in (*self.extra_headers, *([self.auth_key] if self.auth_key else ()))]
        if len(set(names)) < len(names):
            raise ValueError("extra_headers: two headers have one name; auth_key is one of them")
        return self

    @property
    def streamed(self) -> bool:
        """Whether the table names an application, and not a server of documents."""
        return True


class SubscriptionConfig(TargetConfig):
    """The calls that are streamed to an application: those that any of its extensions, trunks or DIDs takes part in."""

    name: Annotated[str, Field(max_length=200, description="a string of at most 200 characters")] = ""
    """A name for display."""
    enabled: Switch = True
    """Can be changed over HTTP too; that survives a restart until this value is edited."""
    extensions: PatternList = Patterns()
    """Patterns of extensions; `"@sales"` means a group of `pbx.groups`, `["*"]` every extension."""
    trunks: PatternList = Patterns()
    """Patterns of trunks."""
    dids: PatternList = Patterns()
    """Patterns of the numbers dialed from outside."""
    ignored: Annotated[
        tuple[Literal["extensions", "trunks", "dids"], ...],
        BeforeValidator(as_tuple),
        Field(description='a list of "extensions", "trunks", "dids"'),
    ] = ()
    """Lists that are kept but have no effect for now."""
    multiparty: Annotated[Literal["per_channel", "single"], Field(description='"per_channel" or "single"')] = (
        "per_channel"
    )
    """Parties beyond the second have a WebSocket each; `"single"`: all share one. Only for `tracks = "parties"`."""


class RouteConfig(TargetConfig):
    """The application that gets a call which the dialplan sends to asterisk-bridge."""

    url: Annotated[str, AfterValidator(check_stream_url), Field(description="a ws:// or wss:// URL")] = ""
    """The WebSocket of the application; no user name or password in it. Either this or `twiml_url`."""
    dialect: Text = ""
    """Name of the wire format, with `url`; an unknown name is rejected with a list of all."""
    twiml_url: HttpUrl = ""
    """Server that answers calls with TwiML, as for a carrier: requested for each call, with a signature. This URL and
    the two below may use templates, like `url`."""
    twiml_method: Method = "POST"
    """HTTP method of that request."""
    twiml_fallback_url: HttpUrl = ""
    """Requested instead when a document is unavailable or invalid. Empty: the caller hears a message."""
    twiml_fallback_method: Method = "POST"
    """HTTP method of that request."""
    status_callback: HttpUrl = ""
    """With `twiml_url`: server that is notified when the call has ended."""
    status_callback_method: Method = "POST"
    """HTTP method of that request."""
    match: Annotated[str, AfterValidator(_check_match), Field(description="a pattern")]
    """Pattern of the number that was dialed or of the argument of `Stasis()`. `"uuid:..."`: pattern of the UUID of an
    AudioSocket connection that asterisk-bridge has not ordered."""
    then: Annotated[Literal["hangup", "continue"], Field(description='"hangup" or "continue"')] = "continue"
    """What happens to the call when the stream ends: `"hangup"`, or `"continue"` in the dialplan."""
    give_up_s: Annotated[float, Field(ge=0, le=3600, description="a number of seconds from 0 to 3600")] = 30.0
    """How long a caller waits without a connection to the application, before `then`. Waits between connections of less
    than 10 s add up. 0: as long as the call lasts."""

    @property
    def streamed(self) -> bool:
        """Whether the route names an application, and not a server of documents."""
        return not self.twiml_url
