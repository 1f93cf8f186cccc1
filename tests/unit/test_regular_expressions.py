"""Every regular expression takes linear time, whatever text it is given: each runs on the loop that carries audio."""

from __future__ import annotations

import ast
import fnmatch

import pytest

from bridge.patterns import MAX_CHARACTERS, MAX_STARS, Patterns, check_pattern
from tests.unit.regular_expressions import MAX_RATIO, ROOT, SUSPECT_S, Use, is_superlinear, min_s, uses

USES = tuple(dict.fromkeys(uses()))


@pytest.mark.parametrize("use", USES, ids=str)
def test_a_regular_expression_takes_linear_time(use: Use) -> None:
    assert is_superlinear(use) == "", "twice as many characters take more than three times as long"


def test_they_are_all_found() -> None:
    named = {use.pattern for use in USES}
    assert len(USES) > 80
    assert r"\$\{([^{}$]{1,200})\}" in named  # compiled, a constant
    assert r"(?=.{1,63}$)[a-z0-9]+(-[a-z0-9]+)*" in named  # an argument of a function of the bridge
    assert any(use.pattern.startswith("ab-ab_w") for use in USES)  # an f-string


@pytest.mark.parametrize(
    ("pattern", "function"),
    [
        (r"https?://[^\s/?#]+\S*", "fullmatch"),
        (r"<[^>]*>", "sub"),
        (r"(?s)<style>(.*?)</style>", "search"),
        (r"\s+$", "search"),
        (r"(a+)+$", "match"),
    ],
)
def test_one_that_is_not_linear_is_noticed(pattern: str, function: str) -> None:
    assert is_superlinear(Use("here", pattern, 0, function))


def test_pydantic_matches_by_its_linear_engine() -> None:
    """``Field(pattern=...)`` is matched by Rust's regex, which cannot backtrack, unless a model asks for Python's."""
    assert not [path for path in ROOT.rglob("*.py") if "regex_engine" in path.read_text(encoding="utf-8")]


@pytest.mark.slow
def test_patterns_of_users_are_matched_in_one_place() -> None:
    importing = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(each.name in ("fnmatch", "glob") for each in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module in ("fnmatch", "glob"))
    }
    assert {each for each in importing if not each.startswith("testing/")} == {"patterns.py"}


HARD = (
    "*a" * MAX_STARS + "b",
    "*" + "a" * (MAX_CHARACTERS - 1),
    "*" + "?" * (MAX_CHARACTERS - 2) + "b",
    "*" + "[!b]" * 40 + "b*",
    "*a?*a?*a?*b",
    "**********"[:MAX_STARS] + "b",
)


@pytest.mark.parametrize("pattern", HARD)
def test_the_hardest_pattern_of_a_user_takes_linear_time(pattern: str) -> None:
    matcher = Patterns((check_pattern(pattern),))
    matcher.prepare()
    once = min_s(matcher.match, "a" * 20_000)
    assert once < SUSPECT_S or min_s(matcher.match, "a" * 40_000) / once < MAX_RATIO


@pytest.mark.parametrize(
    "pattern", ["1001", "10*", "1?01", "[0-9]*", "*", "**", "a*b*c", "[!a]*", "[", "x[", "*1", "?"]
)
def test_a_pattern_means_what_it_means_to_fnmatch(pattern: str) -> None:
    for name in ("", "1001", "10", "100", "a", "ab c", "abc", "abxc", "[", "x[", "A", "aBc", "1\n"):
        assert Patterns((pattern,)).match(name) == fnmatch.fnmatchcase(name, pattern), name


def test_a_list_matches_if_any_of_its_patterns_does() -> None:
    patterns = Patterns(("1001", "20*", "*9", "[a-c]x"))
    assert [name for name in ("1001", "1002", "20", "2011", "119", "bx", "dx") if patterns.match(name)] == [
        *("1001", "20", "2011", "119", "bx")
    ]
    assert not Patterns().match("1001")
    assert not Patterns().match("")


def test_patterns_with_too_many_stars_are_refused() -> None:
    with pytest.raises(ValueError, match=f"more than {MAX_STARS} \\*"):
        check_pattern("*a" * (MAX_STARS + 1))
