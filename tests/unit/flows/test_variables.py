"""Variables, and Voxology's conditions."""

import json
import re
from urllib.parse import parse_qsl, unquote
from xml.etree import ElementTree

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bridge.flows import expression
from bridge.flows.variables import MAX_NAMES, MAX_VALUE_BYTES, Variables, VariablesFull, request_variables
from bridge.flows.web import Web


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


CHOSEN = [
    *("..", ".", "../../admin", "a&b=c", "a?b", "a#b", "%2e%2e", "%2F", "a;b", "a\\b", "a b", "\r\nX: y", "\0", "+"),
    *('"', "'", "<x>&", "]]>", "\u00fc\u20ac", "{}", "", "..;", "../", "/..", "..%2f", "\u2025", "A" * 300),
]
"""What a caller may call themselves."""


async def sent(url: str) -> tuple[list[str], dict[str, str]]:
    """Return segments of the path and the query that a real server receives for a URL."""
    got: list[tuple[list[str], dict[str, str]]] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        path = request.raw_path.partition("?")[0]
        got.append(([unquote(segment) for segment in path.split("/")], dict(request.query)))
        return web.Response()

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    asking = Web()
    try:
        await asking.ask("GET", f"http://127.0.0.1:{runner.addresses[0][1]}{url}", configured=True)
    finally:
        await asking.close()
        await runner.cleanup()
    return got[0]


@pytest.mark.parametrize("chosen", CHOSEN)
async def test_what_a_caller_chose_is_one_segment_or_one_field_for_the_server(chosen: str) -> None:
    variables = Variables({"name": chosen})
    _, query = await sent(variables.fill_url("/orders/1?name=${name}&role=user"))
    assert query == {"name": chosen, "role": "user"}
    if any(piece.partition(";")[0] in (".", "..") for piece in re.split(r"[/\\]", chosen)):
        with pytest.raises(ValueError, match="changes the path"):
            variables.fill_url("/customers/${name}/orders")
        return
    segments, _ = await sent(variables.fill_url("/customers/${name}/orders"))
    assert segments == ["", "customers", chosen, "orders"]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://x/a/${dots}",
            "http://x/${dots}/b",
            "http://x/.${dot}/b",
            "http://x/${dot}${dot}/b?c",
            "${base}/${dots}/a",
        ),
        *("http://x/%2e${dot}/b", "http://x/${dots};v=1/b", "http://x/a/${dots}#b", "http://x/a/${dots}?b=/c"),
    ],
)
def test_dots_that_would_shorten_a_path_are_refused_wherever_they_stand(url: str) -> None:
    variables = Variables({"dots": "..", "dot": ".", "base": "http://x"})
    with pytest.raises(ValueError, match="changes the path"):
        variables.fill_url(url)


def test_dots_elsewhere_are_just_dots() -> None:
    variables = Variables({"dots": "..", "dot": ".", "base": "http://x/../a"})
    for url, filled in (
        ("http://x/a${dots}/b", "http://x/a../b"),
        ("http://x/a?b=${dots}", "http://x/a?b=.."),
        ("http://x/a?b=/${dots}/c", "http://x/a?b=/../c"),
        ("http://x/../a?b=${dot}", "http://x/../a?b=."),  # the author's own
        ("${base}/b", "http://x/../a/b"),
        ("http://x${dot}y/a", "http://x.y/a"),
    ):
        assert variables.fill_url(url) == filled


@pytest.mark.parametrize("chosen", CHOSEN)
def test_what_a_caller_chose_is_one_value_of_a_body(chosen: str) -> None:
    variables = Variables({"name": chosen})
    for template in ('{"n": "${name}", "role": "user"}', '{"n": "${name}", "role": "user", "more": ${number}}'):
        body = json.loads(variables.fill_body(template, "application/json"))
        assert (body["n"], body["role"], body.get("more")) == (chosen, "user", None)
    form = variables.fill_body("n=${name}&role=user", "application/x-www-form-urlencoded; charset=utf-8")
    assert parse_qsl(form, keep_blank_values=True) == [("n", chosen), ("role", "user")]
    for kind in ("text/xml", "application/soap+xml", "application/xml; charset=utf-8"):
        tree = ElementTree.fromstring(variables.fill_body('<a n="${name}"><b>${name}</b><c/></a>', kind))
        plain = chosen.replace("\0", "\ufffd")
        assert (tree[0].text or "") == plain.replace("\r\n", "\n")
        assert tree.get("n") == plain.replace("\r\n", " ").replace("\n", " ")
        assert [each.tag for each in tree] == ["b", "c"]
    assert variables.fill_body("${name}", "text/plain") == chosen


@pytest.mark.parametrize(
    ("value", "becomes"),
    [("7", 7), ("-1.5e3", -1500.0), ("true", True), ("null", None), ("", None), (" 42 ", 42)],
)
def test_outside_of_quotes_stand_numbers_true_false_and_null(value: str, becomes: object) -> None:
    filled = Variables({"x": value}).fill_body('{"a": ${x}, "b": [${x}]}', "application/json")
    assert json.loads(filled) == {"a": becomes, "b": [becomes]}


@pytest.mark.parametrize(
    "value", ['1, "role": "admin"', '"x"', "{}", "[1]", "+4930", "007", "NaN", "Infinity", "1}", "x", "\u0661"]
)
def test_nothing_else_does(value: str) -> None:
    with pytest.raises(ValueError, match="is not in quotes"):
        Variables({"x": value}).fill_body('{"a": ${x}}', "application/json")


def test_a_multipart_body_gets_no_further_part() -> None:
    body = "--b\r\nContent-Disposition: form-data; name=n\r\n\r\n${name}\r\n--b--"
    with pytest.raises(ValueError, match="line break"):
        Variables({"name": "x\r\n--b\r\n"}).fill_body(body, "multipart/form-data; boundary=b")
    assert "Ann" in Variables({"name": "Ann"}).fill_body(body, "multipart/form-data; boundary=b")


def test_what_a_caller_chose_stays_one_value_in_a_url_and_in_json() -> None:
    variables = Variables({"name": 'A"&b=/../x', "base": "http://app.example/x"})
    assert variables.fill_url("http://x/?n=${name}") == "http://x/?n=A%22%26b%3D%2F..%2Fx"
    assert variables.fill_url("${base}/y?n=${name}").startswith("http://app.example/x/y?n=A%22")
    assert json.loads(variables.fill_body('{"n": "${name}"}', "application/json")) == {"n": 'A"&b=/../x'}
    assert json.loads(variables.fill_body('{"${name}": ["${name}"]}', "text/json")) == {'A"&b=/../x': ['A"&b=/../x']}
    assert variables.fill_body('{"price": "$5", "n": 1}', "application/json") == '{"price": "$5", "n": 1}'


def test_bounds() -> None:
    variables = Variables()
    with pytest.raises(VariablesFull):
        variables.set("a", "x" * (MAX_VALUE_BYTES + 1))
    with pytest.raises(VariablesFull):
        variables.set("n" * 201, "x")
    for number in range(8):
        variables.set(f"big{number}", "x" * (MAX_VALUE_BYTES - 10))
    with pytest.raises(VariablesFull, match="in total"):
        variables.set("one more", "x" * MAX_VALUE_BYTES)
    variables.set("big0", "")
    variables.set("one more", "x" * 1000)
    many = Variables({str(number): "" for number in range(MAX_NAMES)})
    with pytest.raises(VariablesFull):
        many.set("one more", "")
    with pytest.raises(VariablesFull):
        many.set_session_data({"x": "y" * 70_000})


def test_what_comes_with_a_request_is_checked_and_our_names_are_ignored() -> None:
    assert request_variables({"a": "b", "voipbin.call.id": "forged"}) == {"a": "b"}
    for wrong in (
        {"a": "x" * 32769},
        {str(n): "" for n in range(101)},
        {"": "x"},
        {str(n): "x" * 30000 for n in range(3)},
    ):
        with pytest.raises(ValueError, match=r"."):
            request_variables(wrong)


CONDITIONS = [
    ("$keyPresses == '1'", True),
    ("$keyPresses == 1", True),
    ("$keyPresses === 1 && $sessionData.n > 2", True),
    ("$sessionData.n < 3 || $keyPresses != '1'", False),
    ("!($keyPresses == '1')", False),
    ("$code == 7", False),  # "007" is not a number
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
        with pytest.raises(ValueError, match=r"nested|more than"):
            expression.parse(text)


@given(st.text(alphabet="$ab.01'\"=!<>&|() {}", max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        parsed = expression.parse(text)
    except ValueError:
        return
    parsed(Variables({"a": "1"}, {"b": [1]}))
