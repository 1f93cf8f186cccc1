"""``/v1.0/subscriptions``: which calls are streamed to which application automatically.

Credentials are never returned. A request that contains the mask of a credential leaves it unchanged, unless the URL
leads to another server: the holder of a token must not obtain a credential by having it sent to their own server.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from bridge import dialects
from bridge.access import Principal
from bridge.api.backend import PRINCIPAL, SUBSCRIPTIONS
from bridge.api.errors import ApiError, invalid, unavailable
from bridge.api.models.base import NoQuery
from bridge.api.models.subscriptions import NewSubscription, SubscriptionBody, SubscriptionPart, Subscriptions
from bridge.api.models.subscriptions import Subscription as ShownSubscription
from bridge.api.routing import Asked, JsonResponse, Raw, note
from bridge.config.values import server_of
from bridge.config.vendors import RESERVED_IDS
from bridge.masking import MASK, holds_mask, mask, mask_url, unmasked
from bridge.streams.subscription import CONFIGURATION_KEYS, InvalidTarget, Subscription, validated, values_of
from bridge.streams.subscription_catalog import ReadOnly
from bridge.streams.subscription_store import StoreFailed
from bridge.validation import MAX_FAULTS

RETRY_AFTER_S = 10


async def list_subscriptions(asked: Asked[NoQuery, None]) -> JsonResponse[Subscriptions]:
    """List all subscriptions."""
    return JsonResponse({"result": [subscription_json(each) for each in asked.request.app[SUBSCRIPTIONS].list()]})


async def get_subscription(asked: Asked[NoQuery, None]) -> JsonResponse[ShownSubscription]:
    """Get a subscription."""
    return JsonResponse(subscription_json(_find(asked.request)))


async def create_subscription(asked: Asked[NoQuery, Raw[NewSubscription]]) -> JsonResponse[ShownSubscription]:
    """Create a subscription."""
    _refuse_masks(asked.body.value)
    subscription = _made_of(asked.body.value, asked.principal)
    asked.note(subscription=subscription.id, application=server_of(subscription.url))
    if subscription.id in RESERVED_IDS:
        raise invalid("INVALID_SUBSCRIPTION", f"id: {subscription.id!r} is reserved for the vendor's settings API")
    if subscription.auth_value.get_secret_value() == MASK:
        raise invalid("INVALID_SUBSCRIPTION", "auth_value: is the mask of a secret; send the secret itself")

    def make(present: Subscription | None) -> Subscription:
        if present is not None:
            raise ApiError(409, "SUBSCRIPTION_EXISTS", f"a subscription {subscription.id!r} already exists")
        return subscription

    with _catalog_errors(subscription.id):
        await asked.request.app[SUBSCRIPTIONS].change(subscription.id, make)
    location = {"Location": f"/v1.0/subscriptions/{subscription.id}"}
    return JsonResponse(subscription_json(subscription), headers=location)


async def replace_subscription(asked: Asked[NoQuery, Raw[SubscriptionBody]]) -> JsonResponse[ShownSubscription]:
    """Replace a subscription; omitted fields get their defaults."""
    request, body = asked.request, dict(asked.body.value)
    present = _find(request)
    if body.setdefault("id", present.id) != present.id:
        raise invalid("INVALID_SUBSCRIPTION", "id: differs from the one in the path; an id cannot be changed")
    return await _replace(request, present.id, lambda _: body)


async def modify_subscription(asked: Asked[NoQuery, Raw[SubscriptionPart]]) -> JsonResponse[ShownSubscription]:
    """Modify the given fields of a subscription; ``{"enabled": ..}`` works for every one."""
    request, body = asked.request, asked.body.value
    present = _find(request)
    if body.get("id", present.id) != present.id:
        raise invalid("INVALID_SUBSCRIPTION", "id: an id cannot be changed")
    if set(body) - {"id"} != {"enabled"}:
        return await _replace(request, present.id, lambda now: subscription_json(now) | body)
    if not isinstance(body["enabled"], bool):
        raise invalid("INVALID_SUBSCRIPTION", "enabled: expected true or false")
    asked.note(enabled=body["enabled"])
    with _catalog_errors(present.id):
        switched = await request.app[SUBSCRIPTIONS].set_enabled(present.id, body["enabled"])
    return JsonResponse(subscription_json(switched))


async def delete_subscription(asked: Asked[NoQuery, None]) -> web.Response:
    """Delete a subscription and end its streams."""
    request = asked.request
    identity = request.match_info["id"]
    with _catalog_errors(identity):
        await request.app[SUBSCRIPTIONS].delete(identity)
    return web.Response(status=204)


def subscription_json(subscription: Subscription) -> dict[str, Any]:
    """Return the JSON of a subscription, with its credential masked."""
    values = values_of(subscription)
    for key in ("agent", *CONFIGURATION_KEYS):
        values.pop(key, None)
    values["auth_value"] = MASK if values["auth_value"] else ""
    return values | {
        "url": mask_url(values["url"]),
        "options": mask(values["options"], "options", shown=dialects.shown_options()),
    }


def same_server(one: str, other: str) -> bool:
    """Return whether two URLs lead to the same server, which may then receive the same credential."""
    try:
        first, second = urlsplit(one), urlsplit(other)
        return (first.scheme, first.hostname, first.port) == (second.scheme, second.hostname, second.port)
    except ValueError:
        return False


async def _replace(
    request: web.Request, identity: str, body_of: Callable[[Subscription], Mapping[str, Any]]
) -> JsonResponse[ShownSubscription]:
    def make(present: Subscription | None) -> Subscription:
        if present is None:
            raise _not_found(identity)
        if present.of_settings_api:
            raise ApiError(
                409,
                "SUBSCRIPTION_OF_YEASTAR",
                "this subscription is managed by its vendor's settings API; here, only enable, disable or delete it",
            )
        subscription = _made_of(_restored(body_of(present), present), request[PRINCIPAL])
        note(request, application=server_of(subscription.url))
        if subscription.auth_value.get_secret_value() != MASK:
            return subscription
        if present.auth_value.get_secret_value() and not same_server(present.url, subscription.url):
            raise invalid("INVALID_SUBSCRIPTION", "auth_value: required, as the new URL names another server")
        return subscription.model_copy(update={"auth_value": present.auth_value})

    with _catalog_errors(identity):
        changed = await request.app[SUBSCRIPTIONS].change(identity, make)
    return JsonResponse(subscription_json(changed))


def _restored(body: Mapping[str, Any], present: Subscription) -> dict[str, Any]:
    """Return the body with masks replaced by the present values, unless it leads to another server."""
    values, shown = dict(body), subscription_json(present)
    if values.get("url") == shown["url"]:
        values["url"] = present.url
    options = values.get("options")
    if holds_mask(options):
        if not same_server(present.url, str(values.get("url"))):
            raise invalid("INVALID_SUBSCRIPTION", "options: required, as the new URL names another server")
        values["options"] = unmasked(options, values_of(present)["options"], shown["options"])
    _refuse_masks(values)
    return values


def _refuse_masks(body: Mapping[str, Any]) -> None:
    for key in ("url", "options"):
        if holds_mask(body.get(key)):
            raise invalid("INVALID_SUBSCRIPTION", f"{key}: contains the mask of a secret; send the secret itself")


@contextmanager
def _catalog_errors(identity: str) -> Iterator[None]:
    """Convert the subscription store's exceptions into errors of the API."""
    try:
        yield
    except KeyError:
        raise _not_found(identity) from None
    except ReadOnly as error:
        raise ApiError(409, "SUBSCRIPTION_CONFIGURED", str(error)) from error
    except ValueError as error:
        raise invalid("INVALID_SUBSCRIPTION", str(error)) from error
    except StoreFailed as error:
        raise unavailable("STATE_NOT_KEPT", str(error), RETRY_AFTER_S) from error


def _not_found(identity: str) -> ApiError:
    return ApiError(
        404,
        "SUBSCRIPTION_NOT_FOUND",
        f"no subscription has the id {identity[:80]!r}; GET /v1.0/subscriptions lists them",
    )


def _made_of(body: Mapping[str, Any], principal: Principal) -> Subscription:
    """Return the subscription that a request's body describes; raise one error for all mistakes."""
    known = {key: value for key, value in body.items() if key in Subscription.model_fields}
    unknown = {key: body[key] for key in itertools.islice((key for key in body if key not in known), MAX_FAULTS)}
    values = {**known, **unknown, "source": "api", "principal": principal.id}
    try:
        return validated(Subscription, values, described=True)
    except InvalidTarget as problem:
        raise invalid("INVALID_SUBSCRIPTION", str(problem)) from None


def _find(request: web.Request) -> Subscription:
    identity = request.match_info["id"]
    with _catalog_errors(identity):
        return request.app[SUBSCRIPTIONS].get(identity)
