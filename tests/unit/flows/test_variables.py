"""Variables, and Voxology's conditions."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.flows import expression
from bridge.flows.variables import MAX_NAMES, MAX_VALUE_BYTES, Variables, VariablesFull
from bridge.flows.variables import given as given_variables


def test_what_is_known_is_put_in_and_what_is_not_is_empty() -> None:
    variables = Variables({"voipbin.call.source.target": "+4930", "a": "${b}", "b": "no"})
    assert variables.fill("from ${voipbin.call.source.target}, ${nobody}!") == "from +4930, !"
    assert variables.fill("${a}") == "${b}", "what a variable holds is not looked at again"
    assert variables.fill("$a {a} ${}") == "$a {a} ${}"


def test_session_data_is_read_by_path() -> None:
    variables = Variables({}, {"name": "Bob", "age": 34, "tags": ["x", {"y": 1}]})
    assert variables.fill("${sessionData.name} ${session_data.age} ${sessionData.tags.1.y}") == "Bob 34 1"
    assert variables.get("sessionData.tags") == '["x", {"y": 1}]'
    assert variables.get("sessionData.nobody.there") == ""
    variables.set("sessionData.name", "Al")
    assert variables.session_data["name"] == "Al"


def test_three_dots_spell_out() -> None:
    assert Variables({"no": "+49"}).fill("${...no}") == "+ 4 9"


def test_what_a_caller_chose_stays_one_value_in_a_url_and_in_json() -> None:
    variables = Variables({"name": 'A"&b=/../x', "base": "http://app.example/x"})
    assert variables.fill_url("http://x/?n=${name}") == "http://x/?n=A%22%26b%3D%2F..%2Fx"
    assert variables.fill_url("${base}/y?n=${name}").startswith("http://app.example/x/y?n=A%22")
    assert json.loads(variables.fill_json('{"n": "${name}"}')) == {"n": 'A"&b=/../x'}
    assert variables.fill_json('{"n": ${base}}') == '{"n": http://app.example/x}'


def test_bounds() -> None:
    variables = Variables()
    with pytest.raises(VariablesFull):
        variables.set("a", "x" * (MAX_VALUE_BYTES + 1))
    with pytest.raises(VariablesFull):
        variables.set("n" * 201, "x")
    for number in range(8):
        variables.set(f"big{number}", "x" * (MAX_VALUE_BYTES - 10))
    with pytest.raises(VariablesFull, match="together"):
        variables.set("one more", "x" * MAX_VALUE_BYTES)
    variables.set("big0", "")
    variables.set("one more", "x" * 1000)
    many = Variables({str(number): "" for number in range(MAX_NAMES)})
    with pytest.raises(VariablesFull):
        many.set("one more", "")
    with pytest.raises(VariablesFull):
        many.set_session_data({"x": "y" * 70_000})


def test_what_comes_with_a_request_is_checked_and_our_names_are_ignored() -> None:
    assert given_variables({"a": "b", "voipbin.call.id": "forged"}) == {"a": "b"}
    for wrong in (
        {"a": "x" * 32769},
        {str(n): "" for n in range(101)},
        {"": "x"},
        {str(n): "x" * 30000 for n in range(3)},
    ):
        with pytest.raises(ValueError, match=r"."):
            given_variables(wrong)


CONDITIONS = [
    ("$keyPresses == '1'", True),
    ("$keyPresses == 1", True),
    ("$keyPresses === 1 && $sessionData.n > 2", True),
    ("$sessionData.n < 3 || $keyPresses != '1'", False),
    ("!($keyPresses == '1')", False),
    ("$code == 7", False),  # "007" is no number
    ("$code == '007'", True),
    ("$nobody", False),
    ("$nobody == ''", True),
    ("true && !false", True),
    ("${keyPresses} >= 1", True),
    ("$price > 9", True),  # as numbers, not as texts
    ("'a' < 'b'", True),
    ("$sessionData.flag == true", True),
    ("-1 < 0", True),
]


@pytest.mark.parametrize(("text", "holds"), CONDITIONS)
def test_conditions(text: str, holds: bool) -> None:
    variables = Variables({"keyPresses": "1", "code": "007", "price": "10"}, {"n": 3, "flag": True})
    assert expression.is_true(expression.parse(text)(variables)) is holds


@pytest.mark.parametrize("text", ["", "$", "1 +", "(1", "1)", "'open", "new Date()", "a.b", "1 2", "== 1", "$x == "])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        expression.parse(text)


def test_a_number_that_is_too_large_to_be_one_is_a_text() -> None:
    condition = expression.parse(f"$sessionData.n == 1 || $sessionData.n == {'9' * 400}")
    assert condition(Variables({}, {"n": int("9" * 400)}))
    assert not condition(Variables({}, {"n": int("8" * 400)}))


def test_depth_and_length_are_bounded() -> None:
    for text in ("(" * 500 + "1" + ")" * 400, "!" * 900 + "1", "1" * 1001):
        with pytest.raises(ValueError, match=r"nested|longer"):
            expression.parse(text)


@given(st.text(alphabet="$ab.01'\"=!<>&|() {}", max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        parsed = expression.parse(text)
    except ValueError:
        return
    parsed(Variables({"a": "1"}, {"b": [1]}))
