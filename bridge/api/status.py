"""``/health``, ``/metrics`` and the page at ``/``: the health of asterisk-bridge, for programs and for people."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from aiohttp import web

from bridge import __version__
from bridge.access import ANONYMOUS
from bridge.api import metrics
from bridge.api.backend import BACKEND, PRINCIPAL, Backend
from bridge.api.prebuilt import Prebuilt, page_headers


async def health(request: web.Request) -> web.Response:
    """Serve ``GET /health``: 200 if calls can be served, otherwise 503 and what is unavailable."""
    backend = request.app[BACKEND]
    # Why ARI failed discloses internal addresses; a probe without a token only learns that it did. The version would
    # disclose which known vulnerabilities to try.
    detailed = request[PRINCIPAL] is not ANONYMOUS
    faults = health_faults(backend, detailed=detailed)
    body = {
        "status": "unavailable" if faults else "ok",
        **({"version": __version__} if detailed else {}),
        "ari": "connected" if backend.ari_connected() else "disconnected",
        "audiosocket": "listening" if backend.listening() else "closed",
        "accepting": backend.accepting(),
        "faults": faults,
    }
    return web.json_response(body, status=503 if faults else 200)


async def live(_: web.Request) -> web.Response:
    """Serve ``GET /health/live``: 200."""
    return web.json_response({"status": "ok"})


def health_faults(backend: Backend, *, detailed: bool) -> list[str]:
    """Return a sentence for each fault that prevents calls from being served."""
    faults = []
    if not backend.ari_connected():
        trouble = backend.ari_trouble() if detailed else None
        faults.append(f"ARI is not connected{': ' + trouble if trouble else ''}")
    if not backend.listening():
        faults.append("the AudioSocket port is not open: Asterisk cannot deliver audio")
    if backend.draining():
        faults.append("the process is draining: it stops when the active calls and streams have ended")
    return faults


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
