"""Pages: nothing twice, nothing left out, even when entries come and go between two requests."""

from __future__ import annotations

import pytest

from bridge.api.errors import ApiError
from bridge.api.models.common import Paging
from bridge.api.paging import page_of
from bridge.api.routing import read_query

Entry = tuple[str, str]


def identity(entry: Entry) -> Entry:
    return entry


def asked(**query: str) -> Paging:
    return read_query(Paging, query)


def test_newest_first_and_no_token_at_the_end() -> None:
    page = page_of([("1", "a"), ("3", "b"), ("2", "c")], identity, asked())
    assert page.entries == [("3", "b"), ("2", "c"), ("1", "a")]
    assert page.next_page_token == ""


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 30, 31])
def test_pages_add_up_to_the_list(count: int) -> None:
    entries = [(f"{n // 3:04}", f"id {n}\n") for n in range(count)]  # some have the same time
    seen: list[Entry] = []
    token = ""
    for _ in range(10):
        page = page_of(entries, identity, asked(page_size="10", page_token=token))
        seen += page.entries
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(entries, reverse=True)


def test_a_list_that_changes_between_two_pages() -> None:
    entries = [(str(n), "x") for n in range(1, 7)]
    first = page_of(entries, identity, asked(page_size="3"))
    assert first.entries == [("6", "x"), ("5", "x"), ("4", "x")]
    changed = [("9", "new"), *entries[:3]]  # 4 to 6 have ended, 9 has begun
    second = page_of(changed, identity, asked(page_size="3", page_token=first.next_page_token))
    assert second.entries == [("3", "x"), ("2", "x"), ("1", "x")]


@pytest.mark.parametrize("size", ["0", "-1", "1001", "x", "1.5", " 5", "\u0661", "9" * 40])
def test_a_wrong_size(size: str) -> None:
    with pytest.raises(ApiError, match="page_size") as caught:
        asked(page_size=size)
    assert (caught.value.status, caught.value.reason) == (400, "INVALID_PAGE_SIZE")


@pytest.mark.parametrize("token", ["x", "ä", "====", "AAAA", "Li4vLi4v", "/w", "\x00"])
def test_a_wrong_token(token: str) -> None:
    with pytest.raises(ApiError, match="page_token") as caught:
        page_of([], identity, asked(page_token=token))
    assert caught.value.status == 400
