"""``/metrics`` and the page at ``/``: the state of asterisk-bridge, for programs and for people."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from aiohttp import web

from bridge.api import metrics
from bridge.api.backend import BACKEND
from bridge.api.health import health_faults
from bridge.api.prebuilt import Prebuilt, page_headers


async def prometheus(request: web.Request) -> web.Response:
    """Serve ``GET /metrics``."""
    backend = request.app[BACKEND]
    gauges: dict[str, float] = {
        "up": 0 if health_faults(backend, detailed=False) else 1,
        "ari_connected": int(backend.ari_connected()),
        "audiosocket_listening": int(backend.listening()),
        "accepting": int(backend.accepting()),
        "loop_busy_ratio": backend.busy(),
        "calls": sum(map(backend.owns, tuple(backend.calls.calls))),
        "streams": sum(1 for _ in backend.streams()),
    }
    totals: dict[str, float] = {"ari_events_undecodable": backend.ari_undecodable(), **backend.audit.totals}
    if backend.cluster is not None:
        gauges |= backend.cluster.gauges
        totals |= backend.cluster.totals
    text = metrics.render(backend.counters, gauges, totals)
    return web.Response(body=text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def page(request: web.Request) -> web.Response:
    """Serve ``GET /``, the status page. It holds no data, so it needs no token; its script requires one."""
    return _DOCUMENT.answer(request)


def _content_policy(html: str) -> str:
    """Return the policy: only the page's own style and script may run, and connect to this server only."""
    hashes = {}
    for tag in ("style", "script"):
        text = html.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        assert text, tag
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[tag] = f"'sha256-{digest}'"
    return (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']};"
        " img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


_PAGE = resources.files("bridge.api").joinpath("status.html").read_text(encoding="utf-8")
_DOCUMENT = Prebuilt(_PAGE.encode(), "text/html", "utf-8", page_headers(_content_policy(_PAGE)))
