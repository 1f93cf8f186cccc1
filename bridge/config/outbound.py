"""The section ``[outbound]``: which connections the bridge may open, and what it trusts and signs with."""

from __future__ import annotations

from bridge.config.values import FilePath, Section


class OutboundConfig(Section):
    """Connections to applications, flow servers, webhooks and sounds."""

    ca_dir: FilePath = ""
    """Directory of the PEM files that a ``ca_file`` may name that comes over HTTP or from a flow; empty: none."""
