"""``/health`` and ``/health/live``: the routes that a start registers; it loads the others after them."""

from __future__ import annotations

from aiohttp import web

from bridge import __version__
from bridge.access import ANONYMOUS
from bridge.api.backend import BACKEND, PRINCIPAL, Backend
from bridge.api.models.health import Alive, Health
from bridge.api.routing import Route


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


PROBES = (
    Route("GET", "/health", "getHealth", "Health check", health, "Bridge", None, access="public",
          answer=Health, others={503: Health},
          text="Returns 200 if calls can be served, otherwise 503 and what is unavailable."),
    Route("GET", "/health/live", "getLiveness", "Liveness check", live, "Bridge", None,
          access="public", answer=Alive,
          text="Returns 200 while the process runs, also if it drains or ARI is unavailable."),
)  # fmt: skip
