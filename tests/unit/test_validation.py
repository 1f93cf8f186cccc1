"""Validation errors in words: the key as people write it, what is expected, and never a secret."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, WrapValidator, model_validator

from bridge.validation import MAX_CHARACTERS, MAX_FAULTS, KeyedError, explain, keyed, sentence, suggestion

STRICT = ConfigDict(extra="forbid", strict=True)
CALL_THROUGH = WrapValidator(lambda value, handler: handler(value))


class Address(BaseModel):
    model_config = STRICT

    kind: Annotated[Literal["tel", "sip"], Field(alias="type")] = "tel"
    target: str


class Order(BaseModel):
    model_config = STRICT

    name: Annotated[str, Field(max_length=3, description="a name of up to 3 letters")] = ""
    count: Annotated[int, Field(ge=1)] = 1
    to: list[Address] | None = None
    by_name: dict[str, Address] = Field(default_factory=dict)
    either: Annotated[list[str] | str, Field(description="one or more names"), CALL_THROUGH] = ""
    secret: SecretStr = SecretStr("")
    secrets: tuple[SecretStr, ...] = ()
    hidden: Annotated[str, Field(repr=False)] = ""

    @model_validator(mode="after")
    def _fits(self) -> "Order":
        if self.name == "one":
            raise ValueError("count: does not go with this name; choose another")
        if self.name == "two":
            raise KeyedError("count: is too small; to[0].type: is missing; all is wrong")
        if self.name == "not":
            raise ValueError("this cannot be")
        return self


def faults(values: Any, *, described: bool = False) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Order.model_validate(values)
    return [": ".join(filter(None, pair)) for pair in explain(caught.value, Order, described=described)]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"count": "x"}, 'count: expected an integer, got "x"'),
        ({"count": 0}, "count: expected a number from 1, got 0"),
        ({"cuont": 1}, "cuont: unknown key; did you mean count?"),
        ({"to": [{"target": "1"}, {"target": 5}]}, "to[1].target: expected a string, got 5"),
        ({"to": [{"target": "1", "type": "fax"}]}, "to[0].type: expected one of 'tel' or 'sip', got \"fax\""),
        ({"to": [{}]}, "to[0].target: is missing"),
        ({"to": [{"target": "1", "tgt": 1}]}, "to[0].tgt: unknown key; did you mean target?"),
        ({"to": [{"target": "1", "zzz": 1}]}, "to[0].zzz: unknown key; expected type, target"),
        ({"by_name": {"list": {"target": 5}}}, "by_name.list.target: expected a string, got 5"),
        ({"by_name": {"str": {"x": 1, "target": ""}}}, "by_name.str.x: unknown key; expected type, target"),
        ({"str": 1}, "str: unknown key; expected "),
        ({"name": "abcd"}, 'name: expected a string of at most 3 characters, got "abcd"'),
        ({"name": "one"}, "count: does not go with this name; choose another"),
        ({"name": "not"}, "this cannot be"),
        ([], "expected an object {...}, got a list"),
    ],
)
def test_words(values: Any, fault: str) -> None:
    (found,) = faults(values)
    assert found.startswith(fault)


def test_the_type_that_was_tried_is_no_part_of_the_key() -> None:
    assert faults({"either": [5]}) == [
        "either[0]: expected a string, got 5",
        "either: expected a string, got a list",
    ]


def test_one_error_may_name_several_keys() -> None:
    assert faults({"name": "two"}) == ["count: is too small", "to[0].type: is missing", "all is wrong"]


def test_descriptions_of_the_field_itself_say_what_is_expected() -> None:
    assert faults({"name": "abcd"}, described=True) == ['name: expected a name of up to 3 letters, got "abcd"']
    assert faults({"either": 5}, described=True)[0].startswith("either: expected one or more names")


@pytest.mark.parametrize("key", ["secret", "hidden"])
def test_secrets_are_not_repeated(key: str) -> None:
    assert faults({key: 12345}) == [f"{key}: expected a string"]
    (found,) = faults({"secrets": ("fine", 12345)})
    assert found == "secrets[1]: expected a string"


def test_the_answer_is_bounded() -> None:
    found = faults({f"key{number}" * 20: 1 for number in range(1000)})
    assert len(found) == MAX_FAULTS
    assert all(len(fault) < 200 for fault in found)
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({f"key{number}": 1 for number in range(1000)})
    assert len(sentence(explain(caught.value, Order))) <= MAX_CHARACTERS
    assert faults({"count": "x" * 1000}) == ['count: expected an integer, got "' + "x" * 76 + "..."]


def test_keys_are_taken_from_sentences() -> None:
    assert keyed("options.rate: must be 8000: nothing else") == ("options.rate", "must be 8000: nothing else")
    assert keyed("no key here: none") == ("", "no key here: none")


def test_suggestions() -> None:
    assert suggestion("tlak", ["talk", "play"]) == "; did you mean talk?"
    assert suggestion("prot", ["port"], "http.") == "; did you mean http.port?"
    assert suggestion("x" * 1_000_000, ["talk", "play"]) == "; expected talk, play"
    assert suggestion("zzz", []) == ""
    assert suggestion("zzz", [f"name{number}" for number in range(1000)]) == ""
