"""The complete configuration as one value."""

from typing import Any, get_args, get_origin
from urllib.parse import urlsplit

from bridge.config.agent_tools import ToolConfig
from bridge.config.calling import CallingConfig
from bridge.config.cluster import ClusterConfig
from bridge.config.flows import FlowConfig
from bridge.config.outbound import OutboundConfig
from bridge.config.privacy import PrivacyConfig
from bridge.config.recording import RecordingConfig
from bridge.config.restart import RestartConfig
from bridge.config.sections import AriConfig, AudioSocketConfig, AuditConfig, HttpConfig, LogConfig, MediaConfig
from bridge.config.speech import SpeechConfig
from bridge.config.streams import PbxConfig, RouteConfig, StreamsConfig, SubscriptionConfig
from bridge.config.tokens import TokenConfig
from bridge.config.values import Tables, is_loopback, section
from bridge.config.vendors import SECTIONS as VENDOR_SECTIONS
from bridge.config.vendors import Vendors
from bridge.config.webhooks import WebhookConfig
from bridge.config.workers import WorkersConfig

FILES_PER_STREAM = 3
"""One WebSocket and up to two media legs."""
FILES_ASIDE = 100
"""ARI, listening sockets, the log, and others."""


class Config(Vendors):
    """The complete configuration. Sections validate their own keys; `load` also validates across sections."""

    http: HttpConfig = section()
    tokens: Tables[TokenConfig] = ()
    audiosocket: AudioSocketConfig = section()
    ari: AriConfig = section()
    media: MediaConfig = section()
    log: LogConfig = section()
    audit: AuditConfig = section()
    pbx: PbxConfig = section()
    streams: StreamsConfig = section()
    outbound: OutboundConfig = section()
    calling: CallingConfig = section()
    speech: SpeechConfig = section()
    recording: RecordingConfig = section()
    privacy: PrivacyConfig = section()
    restart: RestartConfig = section()
    cluster: ClusterConfig = section()
    subscriptions: Tables[SubscriptionConfig] = ()
    dialplan: Tables[RouteConfig] = ()
    webhooks: Tables[WebhookConfig] = ()
    workers: WorkersConfig = section()
    flows: Tables[FlowConfig] = ()
    tools: Tables[ToolConfig] = ()

    @property
    def audio_host(self) -> str:
        """The host that Asterisk's audio is expected from; empty if ARI's address does not determine it.

        ARI on loopback and audio from another address: a published container port, a tunnel or a proxy leads to ARI.
        """
        host = urlsplit(self.ari.url).hostname or ""
        return "" if is_loopback(host) and not is_loopback(self.audiosocket.bind_host) else host

    @property
    def open_files_needed(self) -> int:
        """Descriptors that the process needs when every limit is reached."""
        return self.media.max_streams * FILES_PER_STREAM + self.http.max_connections + FILES_ASIDE


TABLES: dict[str, Any] = {
    name: get_args(field.annotation)[0]
    for name, field in Config.model_fields.items()
    if get_origin(field.annotation) is tuple
}
"""Models of lists of tables; each table has an id."""
SECTIONS: dict[str, Any] = {
    name: field.annotation for name, field in Config.model_fields.items() if name not in TABLES | VENDOR_SECTIONS
} | VENDOR_SECTIONS
"""Models of all other keys."""
