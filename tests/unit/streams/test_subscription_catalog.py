"""Subscriptions from the file and over HTTP: who may change which, and what a restart finds."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.streams.subscription import Subscription, values_of
from bridge.streams.subscription_catalog import MAX_MADE, ReadOnly, SubscriptionCatalog
from bridge.streams.subscription_store import StoreFailed, SubscriptionStore
from tests.fakes.virtual_time import settle

GROUPS = {"sales": ("1001", "20*")}


def subscription(identity: str, **values: Any) -> Subscription:
    given = {"id": identity, "url": "wss://app.example", "dialect": "yeastar", "extensions": ["1"], "source": "api"}
    return Subscription.model_validate(given | values)


def configured(identity: str, **values: Any) -> Subscription:
    return subscription(identity, source="config", **values)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state.sqlite3")


def started(path: str, *in_file: Subscription) -> SubscriptionCatalog:
    catalog = SubscriptionCatalog(in_file, SubscriptionStore(path), GROUPS)
    catalog.load()
    return catalog


def ids(subscriptions: Iterable[Subscription]) -> list[str]:
    return [each.id for each in subscriptions]


async def test_both_kinds_are_there_after_a_restart(path: str) -> None:
    catalog = started(path, configured("m"))
    made = subscription("z", auth_value="confidential", options={"rate": 16000})
    await catalog.put(made)
    await catalog.put(subscription("a", enabled=False))
    again = started(path, configured("m"))
    assert ids(again.list()) == ids(catalog.list()) == ["a", "m", "z"]
    assert again.get("z") == made
    assert ids(again.enabled()) == ["m", "z"]
    await again.delete("z")
    assert ids(started(path, configured("m")).list()) == ["a", "m"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"url": "ws://127.0.0.1:9/"}, "127.0.0.1 (loopback) denied"),
        ({"ca_file": "/etc/ssl/certs/ca-certificates.crt"}, "[outbound] ca_dir, which is not set"),
        ({}, ""),
    ],
)
async def test_what_an_older_version_kept_and_the_policy_denies(
    path: str, values: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    await SubscriptionStore(path).put("z", values_of(subscription("z", **values)))
    assert ids(started(path).list()) == ["z"]
    warnings = [record.getMessage() for record in caplog.records]
    assert [said in warning and "subscription=z" in warning for warning in warnings] == [True] * bool(said)


async def test_the_owner_is_kept_and_is_who_changed_it_last(path: str) -> None:
    catalog = started(path)
    await catalog.put(subscription("z", principal="crm"))
    assert started(path).get("z").principal == "crm"
    await catalog.put(subscription("z", principal="other"))
    assert catalog.get("z").principal == "crm"  # nothing has changed
    await catalog.put(subscription("z", principal="other", url="wss://other.example"))
    await catalog.set_enabled("z", False)
    assert started(path).get("z").principal == "other"


async def test_one_of_an_older_version_has_an_unknown_owner(path: str) -> None:
    values = values_of(subscription("z"))
    del values["principal"]
    await SubscriptionStore(path).put("z", values)
    assert started(path).get("z").principal == "unknown"


async def test_groups_are_replaced_by_their_members(path: str) -> None:
    catalog = started(path, configured("a", extensions=["@sales", "9"]))
    assert catalog.enabled()[0].extensions == ("1001", "20*", "9")
    assert catalog.get("a").extensions == ("@sales", "9")


async def test_those_of_the_file_can_only_be_switched(path: str) -> None:
    catalog = started(path, configured("a"))
    with pytest.raises(ReadOnly):
        await catalog.put(subscription("a"))
    with pytest.raises(ReadOnly):
        await catalog.delete("a")
    await catalog.set_enabled("a", False)
    assert catalog.enabled() == ()
    assert started(path, configured("a")).enabled() == ()
    await catalog.set_enabled("a", True)
    assert ids(started(path, configured("a")).enabled()) == ["a"]


async def test_who_edits_the_file_afterwards_decides(path: str) -> None:
    await started(path, configured("a", enabled=True)).set_enabled("a", False)
    assert not started(path, configured("a", enabled=False)).get("a").enabled
    await started(path, configured("a", enabled=False)).set_enabled("a", True)
    assert started(path, configured("a", enabled=True)).get("a").enabled
    assert started(path, configured("a", enabled=False)).get("a").enabled  # switched, and the file is still the same
    assert ids(started(path).list()) == []


async def test_a_switch_of_one_made_over_http_is_kept_with_it(path: str) -> None:
    catalog = started(path)
    await catalog.put(subscription("a"))
    await catalog.set_enabled("a", False)
    assert started(path).get("a") == subscription("a", enabled=False)


async def test_listeners_hear_of_each_change_once(path: str) -> None:
    catalog = started(path, configured("k"))
    seen: list[list[str]] = []
    stop = catalog.on_change(lambda: seen.append(ids(catalog.enabled())))
    await catalog.put(subscription("a"))
    await catalog.put(subscription("a"))  # the same: no change
    await catalog.set_enabled("a", False)
    await catalog.set_enabled("a", False)
    await catalog.set_enabled("k", False)
    await catalog.delete("a")
    stop()
    stop()
    await catalog.set_enabled("k", True)
    assert seen == [["a", "k"], ["k"], [], []]


async def test_what_cannot_be_kept_has_not_happened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    catalog = SubscriptionCatalog([configured("k")], SubscriptionStore(str(tmp_path / "file" / "x")))
    for change in (
        catalog.put(subscription("a")),
        catalog.set_enabled("k", False),
    ):
        with pytest.raises(StoreFailed):
            await change
    assert catalog.list() == [configured("k")]
    assert catalog.enabled() == (configured("k"),)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"extensions": []}, "no call would match"),
        ({"extensions": ["@nobody"]}, "sales"),
        ({"ca_file": "/no/such/file"}, "PEM"),
        ({"ca_file": __file__}, "PEM"),
        ({"ca_file": "\x00"}, "PEM"),
        ({"url": ""}, "url"),
    ],
)
async def test_what_does_not_go_together(path: str, values: dict[str, Any], word: str) -> None:
    catalog = started(path)
    with pytest.raises(ValueError, match=word):
        await catalog.put(subscription("a", **values))
    assert ids(started(path).list()) == []


async def test_without_a_url_nothing_is_switched_on(path: str) -> None:
    catalog = started(path)
    await catalog.put(subscription("yeastar", url="", enabled=False, extensions=[], source="yeastar"))
    with pytest.raises(ValueError, match="url"):
        await catalog.set_enabled("yeastar", True)


async def test_who_is_not_there(path: str) -> None:
    catalog = started(path)
    with pytest.raises(KeyError):
        catalog.get("a")
    with pytest.raises(KeyError):
        await catalog.delete("a")
    with pytest.raises(KeyError):
        await catalog.set_enabled("a", True)


async def test_changes_at_the_same_time_do_not_lose_each_other(path: str) -> None:
    catalog = started(path)
    await catalog.put(subscription("a", name=""))

    def longer(present: Subscription | None) -> Subscription:
        assert present is not None
        return present.model_copy(update={"name": present.name + "x"})

    await asyncio.gather(*(catalog.change("a", longer) for _ in range(20)))
    assert started(path).get("a").name == "x" * 20


async def test_there_is_an_end_to_it() -> None:
    catalog = SubscriptionCatalog([configured("k")], SubscriptionStore(""))
    for number in range(MAX_MADE):
        await catalog.put(subscription(f"s{number}"))
    with pytest.raises(ValueError, match="limit of 1000 subscriptions"):
        await catalog.put(subscription("more"))
    await catalog.put(subscription("s1", name="changed"))


async def test_one_that_cannot_be_used_stops_nothing(path: str, caplog: pytest.LogCaptureFixture) -> None:
    store = SubscriptionStore(path)
    await store.put(
        "bad", {"id": "bad", "url": "wss://app.example", "dialect": "klingon", "auth_value": "confidential"}
    )
    await store.put("worse", {"id": 3})
    await started(path).put(subscription("good"))
    with caplog.at_level(logging.WARNING):
        assert ids(started(path, configured("good", name="ours")).list()) == ["good"]
    assert "klingon" in caplog.text
    assert "the configuration has the same id" in caplog.text
    assert "confidential" not in caplog.text


async def test_the_patterns_of_all_subscriptions_are_bounded(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.streams.subscription_catalog.MAX_PATTERNS_MADE", 5)
    catalog = started(path, configured("m", extensions=["1", "2", "3"]))
    await catalog.put(subscription("a", extensions=["1", "2"], trunks=["t"]))
    with pytest.raises(ValueError, match="would exceed 5 patterns"):
        await catalog.put(subscription("b", dids=["1", "2", "3"]))
    await catalog.put(subscription("a", extensions=["1", "2", "3", "4", "5"]))  # in place of its own three


async def test_the_options_of_all_subscriptions_are_bounded(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.streams.subscription_catalog.MAX_OPTIONS_MADE", 100)
    catalog = started(path, configured("m", dialect="twilio", options={"parameters": {"a": "x" * 200}}))
    await catalog.put(subscription("a", dialect="twilio", options={"parameters": {"a": "x" * 50}}))
    with pytest.raises(ValueError, match="would exceed 100 characters of options"):
        await catalog.put(subscription("b", dialect="twilio", options={"parameters": {"a": "x" * 50}}))
    await catalog.put(subscription("a", dialect="twilio", options={"parameters": {"b": "x" * 60}}))  # in its place


async def test_patterns_are_compiled_before_a_call_needs_them(path: str) -> None:
    catalog = started(path, configured("m", extensions=["@sales", "*9"]))
    await catalog.put(subscription("a", extensions=["@sales", "*7"]))
    await catalog.set_enabled("m", False)
    await catalog.set_enabled("m", True)
    assert ids(catalog.enabled()) == ["a", "m"]
    for each in (*catalog.enabled(), *started(path).enabled()):
        assert "_prepared" in vars(each.extensions)


def test_options_of_a_subscription_are_bounded() -> None:
    with pytest.raises(ValidationError, match="exceed 16384 characters"):
        subscription("a", dialect="twilio", options={"parameters": {str(number): "x" * 100 for number in range(200)}})


def test_one_subscription_has_a_bounded_number_of_patterns() -> None:
    assert subscription("a", extensions=["1"] * 400, trunks=["1"] * 300, dids=["1"] * 300).pattern_count == 1000
    with pytest.raises(ValidationError, match="at most 1000 patterns"):
        subscription("a", extensions=["1"] * 400, trunks=["1"] * 300, dids=["1"] * 301)
    with pytest.raises(ValidationError, match=r"at most 1000 patterns; got 90000") as caught:
        subscription("a", extensions=[""] * 90_000)
    assert caught.value.error_count() == 1


async def test_what_another_worker_changed_last_stays(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of two changes overlap, and the first takes longer than the second."""
    ours, theirs = started(path), started(path)
    await theirs.put(subscription("a"))
    read, has_read, may_return = SubscriptionCatalog._read, threading.Event(), threading.Event()

    def slow_first(self: SubscriptionCatalog) -> Any:
        made = read(self)
        if not has_read.is_set():
            has_read.set()
            assert may_return.wait(10)
        return made

    monkeypatch.setattr(SubscriptionCatalog, "_read", slow_first)
    first = asyncio.create_task(ours.reload())
    await asyncio.to_thread(has_read.wait, 10)
    await theirs.delete("a")
    second = asyncio.create_task(ours.reload())
    await settle()
    may_return.set()
    await asyncio.gather(first, second)
    assert not ours.list()
