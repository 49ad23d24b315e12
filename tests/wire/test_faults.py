"""Every 400 about a field is written in one place, in either of OpenAI's two ways to put it."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

import tunesmith
from tunesmith.errors import InvalidRequest
from tunesmith.wire.body import Body, ChatBody, read


class Part(ChatBody):
    name: str


class Chatted(ChatBody):
    count: Annotated[int, Field(ge=1, le=9)] = 1
    rate: Annotated[float, Field(ge=0, le=2)] = 1.0
    flag: bool = False
    names: list[str] = Field(default_factory=list, max_length=2)
    parts: list[Part] = Field(default_factory=list)


class Tuned(Body):
    count: Annotated[int, Field(ge=1, le=9)] = 1
    names: list[str] = Field(default_factory=list)


def fault(body: type[Body], at: str = "", **fields: Any) -> tuple[str, str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        read(body, fields, at)
    return caught.value.message, caught.value.param, caught.value.code


def test_only_one_place_says_that_a_parameter_is_unknown() -> None:
    sources = Path(tunesmith.__file__).parent.rglob("*.py")
    said = [(path.name, path.read_text("utf-8").count("Unknown parameter")) for path in sources]
    assert [one for one in said if one[1]] == [("faults.py", 1)]


@pytest.mark.parametrize(
    ("fields", "message", "param", "code"),
    [
        ({"more": None}, "Unknown parameter: 'more'.", "more", "unknown_parameter"),
        (
            {"flag": 1},
            "Invalid type for 'flag': expected a boolean, but got an integer instead.",
            "flag",
            "invalid_type",
        ),
        (
            {"rate": True},
            "Invalid type for 'rate': expected a decimal, but got a boolean instead.",
            "rate",
            "invalid_type",
        ),
        (
            {"count": 10},
            "Invalid 'count': integer above maximum value. Expected a value <= 9, but got 10 instead.",
            "count",
            "integer_above_max_value",
        ),
        (
            {"rate": -1},
            "Invalid 'rate': decimal below minimum value. Expected a value >= 0, but got -1 instead.",
            "rate",
            "decimal_below_min_value",
        ),
        (
            {"names": ["a", "b", "c"]},
            "Invalid 'names': array too long. Expected an array with maximum length 2, but got an array with length 3"
            " instead.",
            "names",
            "array_above_max_length",
        ),
        (
            {"parts": [{"name": "a"}, {"name": None}]},
            "Missing required parameter: 'parts[1].name'.",
            "parts[1].name",
            "missing_required_parameter",
        ),
    ],
)
def test_chat_bodies_name_the_field_first_and_have_a_code(
    fields: dict[str, Any], message: str, param: str, code: str
) -> None:
    assert fault(Chatted, **fields) == (message, param, code)


def test_other_bodies_name_the_value_first_and_the_field_last() -> None:
    assert fault(Tuned, count=10) == ("10 is greater than the maximum of 9 - 'count'", "count", None)
    assert fault(Tuned, names=[1]) == ("1 is not a string - 'names[0]'", "names[0]", None)
    assert fault(Tuned, more=1)[0] == "Unknown parameter: 'more'."


def test_an_unknown_name_is_told_before_a_missing_one() -> None:
    assert fault(Part, nmae="a")[1] == "nmae"


def test_null_counts_as_absent_in_a_chat_body_only() -> None:
    assert read(Chatted, {"count": None, "parts": None}) == Chatted()
    assert fault(Tuned, count=None)[1] == "count"


def test_the_path_of_a_body_inside_another_is_part_of_the_name() -> None:
    assert fault(Part, "grader", name=1)[1] == "grader.name"


def test_the_document_says_that_optional_fields_may_be_null() -> None:
    properties = Chatted.model_json_schema()["properties"]
    assert {"type": "null"} in properties["count"]["anyOf"]
    assert "anyOf" not in Part.model_json_schema()["properties"]["name"]
