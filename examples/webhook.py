"""Takes the bridge's webhooks and verifies their signatures: WEBHOOK_SECRET=whsec_... python webhook.py [PORT]"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping

from aiohttp import web

TOLERANCE_S = 300
_seen: OrderedDict[str, None] = OrderedDict()


def key_of(secret: str) -> bytes:
    """Return the bytes of ``whsec_`` and base64, or of any other string."""
    return base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()


def is_genuine(key: bytes, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Return whether asterisk-bridge sent this body, recently."""
    event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (timestamp.isdecimal() and abs(now - int(timestamp)) <= TOLERANCE_S):
        return False  # an old request that is repeated
    signed = b".".join((event_id.encode(), timestamp.encode(), body))
    expected = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    given = headers.get("webhook-signature", "").encode("utf-8", "replace").split()
    return any(hmac.compare_digest(expected, one) for one in given)


async def take(request: web.Request) -> web.Response:
    body = await request.read()
    if not is_genuine(request.app[KEY], request.headers, body, time.time()):
        return web.Response(status=401)
    event = json.loads(body)
    # If the response was lost, the same event is sent again.
    if event["id"] not in _seen:
        _seen[event["id"]] = None
        if len(_seen) > 10_000:
            _seen.popitem(last=False)
        print(event["tm_create"], event["type"], json.dumps(event["data"]), flush=True)
    return web.Response(status=204)  # soon: the next event waits for it; what takes time is done afterwards


KEY = web.AppKey("key", bytes)

if __name__ == "__main__":
    application = web.Application()
    if not os.environ.get("WEBHOOK_SECRET"):
        sys.exit("webhook.py: set WEBHOOK_SECRET to the secret that the bridge's configuration has for this URL")
    application[KEY] = key_of(os.environ["WEBHOOK_SECRET"])
    application.router.add_post("/{path:.*}", take)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8099, print=None)
