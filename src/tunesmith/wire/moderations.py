"""`/v1/moderations`: the texts to judge, and what was found in each."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from tunesmith.errors import InvalidRequest
from tunesmith.wire.body import ChatBody
from tunesmith.wire.faults import shown, worded

MAX_INPUTS = 1024
MAX_CHARS = 1_000_000  # of one text


def _inputs(value: object) -> list[str]:
    """Any of the forms as a list of texts, one for each result."""
    if isinstance(value, str):
        return [_text(value, "")]
    if not isinstance(value, list) or not value:
        raise _refusal("", f"{shown(value)} is neither a text nor a list of texts or text parts.", named=True)
    if len(value) > MAX_INPUTS:
        raise _refusal("", f"{len(value)} inputs are given; at most {MAX_INPUTS} are judged at once.")
    if isinstance(value[0], dict):  # the parts of one input
        return ["\n".join(_part(part, f"[{index}]") for index, part in enumerate(value))]
    return [_text(text, f"[{index}]") for index, text in enumerate(value)]


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise _refusal(path, f"{shown(value)} is not a text.", named=True)
    if len(value) > MAX_CHARS:
        raise _refusal(path, f"The text has {len(value):,} characters; at most {MAX_CHARS:,} are judged.")
    return value


def _part(value: object, path: str) -> str:
    if not isinstance(value, dict) or value.get("type") not in ("text", "image_url"):
        raise _refusal(path, f'{shown(value)} is not a part such as {{"type": "text", "text": "..."}}.')
    if value["type"] == "image_url":
        raise _refusal(path, "Images are not judged by this server; send text parts only.")
    return _text(value.get("text"), f"{path}.text")


def _refusal(path: str, message: str, *, named: bool = False) -> PydanticCustomError:
    """`path`: below the field; `named`: the message ends with the field."""

    def say(param: str) -> InvalidRequest:
        place = f"{param}{path}"
        return InvalidRequest(f"{message} - '{place}'" if named else message, param=place)

    return worded(say)


Inputs: TypeAlias = Annotated[
    list[str], BeforeValidator(_inputs, json_schema_input_type=str | list[str] | list[dict[str, object]])
]


class CreateModeration(ChatBody):
    """The body of `POST /v1/moderations`.

    Which models there are is a setting, so any value is read.
    """

    model: Annotated[object, BeforeValidator(lambda value: value, json_schema_input_type=str)] = Field(
        None, description="The setting moderation_model or one of OpenAI's names; which of them changes nothing."
    )
    input: Inputs = Field(
        description="A text, up to 1024 of them, or text parts of one input; at most 1,000,000 characters each. Images "
        "are refused."
    )


class Judged(TypedDict):
    """What was found in one input."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text"]]]


class Moderation(TypedDict):
    """The answer of `POST /v1/moderations`."""

    id: str
    model: str
    results: list[Judged]
