"""Ids of our own objects: unique, recognized, never the beginning of another."""

from __future__ import annotations

import re

import pytest

from bridge.calls.ids import OwnIds


def test_an_id_says_whose_it_is_and_what_for() -> None:
    ids = OwnIds("my_app2")
    first, second = ids.new("snoop"), ids.new("hold")
    assert re.fullmatch(r"ab-my_app2-[0-9a-f]{8}-snoop-00000001", first)
    assert re.fullmatch(r"ab-my_app2-[0-9a-f]{8}-hold-00000002", second)
    assert first.split("-")[2] == second.split("-")[2]


def test_no_id_is_the_beginning_of_another() -> None:
    ids = OwnIds("app")
    made = [ids.new("media") for _ in range(1200)]
    assert len({len(one) for one in made}) == 1
    assert len(set(made)) == len(made)


def test_each_life_has_its_own() -> None:
    assert OwnIds("app").new("mix") != OwnIds("app").new("mix")


@pytest.mark.parametrize(
    ("object_id", "ours"),
    [
        pytest.param(OwnIds("app").new("mix"), True, id="of a previous run"),
        ("ab-app-00000000-snoop-1", True),
        pytest.param(OwnIds("app2").new("mix"), False, id="of app2"),
        pytest.param(OwnIds("ap").new("mix"), False, id="of ap"),
        pytest.param(OwnIds("other_app").new("mix"), False, id="of other_app"),
        ("ab-app", False),
        ("xab-app-00000000-mix-1", False),
        ("AB-app-00000000-mix-1", False),
        ("1795225433.63", False),
        ("", False),
    ],
)
def test_only_our_own_are_recognized(object_id: str, ours: bool) -> None:
    assert OwnIds("app").ours(object_id) is ours
