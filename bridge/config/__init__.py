"""The configuration: one TOML file, overridden by environment variables, validated before anything starts.

    [http] [audiosocket] [ari] [media] [log] [audit]   required by every instance
    [[tokens]]                                         who may use the API, and their scopes
    [pbx] [streams] [twilio]                           automatic streaming
    [calling]                                          originated calls
    [speech]                                           speech and sounds played in calls
    [recording]                                        limits and retention of recordings
    [privacy]                                          announcements of streams and recordings, withheld numbers
    [outbound]                                         which outgoing connections are allowed
    [cluster]                                          several nodes that share subscriptions
    [[subscriptions]] [[dialplan]]                     lists of tables: which calls are streamed where
    [[flows]] [voxology]                               which calls run which actions
    [[webhooks]]                                       servers that receive events
    [workers]                                          how many processes
    ASTERISK_BRIDGE_<SECTION>__<KEY>                   overrides one key, for example ASTERISK_BRIDGE_ARI__PASSWORD
    ASTERISK_BRIDGE_SUBSCRIPTIONS__<ID>__<KEY>         the same for a table of a list

`load` reports all mistakes together, each with the dotted key, what is wrong and what is expected. Secrets are
pydantic's ``SecretStr``: no repr, log or error contains them. ``docs/reference/configuration.md`` describes every key.
"""

from bridge.config.calling import CallingConfig
from bridge.config.cluster import ClusterConfig
from bridge.config.flows import FlowConfig
from bridge.config.loading import ConfigErrors, each_error, load, settings_in
from bridge.config.model import SECTIONS, TABLES, Config
from bridge.config.outbound import OutboundConfig
from bridge.config.privacy import PrivacyConfig
from bridge.config.recording import RecordingConfig
from bridge.config.sections import AriConfig, AudioSocketConfig, AuditConfig, HttpConfig, LogConfig, MediaConfig
from bridge.config.speech import SpeechConfig
from bridge.config.streams import (
    PbxConfig,
    RouteConfig,
    StreamsConfig,
    SubscriptionConfig,
    TargetConfig,
)
from bridge.config.tokens import TokenConfig
from bridge.config.values import MIN_TOKEN_CHARACTERS, host_and_port, is_loopback, is_wildcard
from bridge.config.vendors import TwilioConfig, Vendors, VoxologyConfig
from bridge.config.webhooks import WebhookConfig
from bridge.config.workers import WorkersConfig

__all__ = [
    "MIN_TOKEN_CHARACTERS", "SECTIONS", "TABLES", "AriConfig", "AudioSocketConfig",
    "AuditConfig", "CallingConfig", "ClusterConfig", "Config", "ConfigErrors", "FlowConfig", "HttpConfig", "LogConfig",
    "MediaConfig", "OutboundConfig", "PbxConfig", "PrivacyConfig", "RecordingConfig", "RouteConfig", "SpeechConfig",
    "StreamsConfig",
    "SubscriptionConfig", "TargetConfig", "TokenConfig", "TwilioConfig", "Vendors", "VoxologyConfig", "WebhookConfig",
    "WorkersConfig", "each_error", "host_and_port", "is_loopback", "is_wildcard", "load", "settings_in",
]  # fmt: skip
