"""`/v1/completions`, the older API: text in, text out."""

from functools import partial
from typing import Annotated, Literal, NotRequired, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, SkipValidation, model_validator
from typing_extensions import TypedDict

from tunesmith.wire.body import FIRST_FAULT
from tunesmith.wire.chat.answers import TokenUsage
from tunesmith.wire.chat.bodies import Sampling
from tunesmith.wire.faults import invalid_value, unsupported, worded, wrong_type

MAX_PROMPTS = 128
MAX_ANSWERS = 2048  # of all prompts together: they are written into one body


def _prompts(value: object) -> object:
    """Any of the four forms as a list of texts and lists of token ids."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return value
    if not value:
        message = "Invalid 'prompt': an empty array has nothing to continue."
        raise worded(lambda param: invalid_value(param, message))
    if any(isinstance(item, int) for item in value):
        return [_tokens(value, "")]
    if len(value) > MAX_PROMPTS:  # the field's own bound says so
        return value
    return [item if isinstance(item, str) else _tokens(item, f"[{index}]") for index, item in enumerate(value)]


def _tokens(items: object, path: str) -> list[int]:
    if not isinstance(items, list):
        raise worded(lambda param: wrong_type(f"{param}{path}", "an array", items))
    if not {*map(type, items)} <= {int}:  # of a million ids in a tenth of the time that a loop takes
        wrong = next(index for index, item in enumerate(items) if type(item) is not int)
        raise worded(lambda param: wrong_type(f"{param}{path}[{wrong}]", "an integer", items[wrong]))
    return items


def _no_suffix(suffix: str) -> str:
    if suffix:
        raise worded(partial(unsupported, reason="text can be continued, not filled in."))
    return suffix


Prompts: TypeAlias = Annotated[
    list[str | SkipValidation[list[int]]],  # _tokens has looked at them, many times as fast
    Field(max_length=MAX_PROMPTS),
    FIRST_FAULT,
    BeforeValidator(_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]


class CreateCompletion(Sampling):
    """The body of `POST /v1/completions`."""

    suffix: Annotated[str, AfterValidator(_no_suffix)] | None = Field(
        None, description="Text can be continued, not filled in."
    )
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Another name of max_tokens; only one of the two may be given."
    )
    max_tokens: Annotated[int, Field(ge=0)] | None = Field(
        None, description="An upper bound; unset: 16. 0 generates nothing, for the log-probabilities of a prompt."
    )
    prompt: Prompts = Field(
        description="A text, token ids, or up to 128 of either; continued as plain text, without a chat template."
    )
    echo: bool = Field(
        False, description="The answer begins with the prompt; with logprobs, the prompt's log-probabilities too."
    )
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = Field(
        None, description="Log-probabilities, with 0 to 5 of the likeliest tokens at each place."
    )
    best_of: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None,
        description="Up to 20: generates as many and returns the n with the highest mean log-probability per token; "
        "all are counted. Not streamed.",
    )

    @model_validator(mode="after")
    def _best_of_agrees(self) -> Self:
        best_of = self.best_of or self.n
        if best_of < self.n:
            message = f"Invalid 'best_of': {best_of} is less than 'n', which is {self.n}."
            raise worded(lambda _: invalid_value("best_of", message))
        if self.stream and best_of > self.n:
            message = "Invalid 'best_of': the best is known at the end, so it cannot be streamed."
            raise worded(lambda _: invalid_value("best_of", message))
        return self

    @model_validator(mode="after")
    def _answers_are_bounded(self) -> Self:
        each = self.best_of or self.n
        answers = len(self.prompt) * each
        if answers > MAX_ANSWERS:
            message = (
                f"Invalid 'prompt': {len(self.prompt)} prompts with {each} choices each are {answers} answers; a "
                f"request has at most {MAX_ANSWERS}. Send fewer prompts at once."
            )
            raise worded(lambda _: invalid_value("prompt", message))
        return self


class TextLogprobs(TypedDict):
    """Log-probabilities, a list entry per token.

    `text_offset` counts characters of the text before the token.
    """

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float | None] | None]


TextFinish: TypeAlias = Literal["stop", "length"]


class TextChoice(TypedDict):
    """One text."""

    text: str
    index: int
    logprobs: TextLogprobs | None
    finish_reason: TextFinish | None


class TextCompletion(TypedDict):
    """The answer of `POST /v1/completions`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: TokenUsage


class TextChunk(TypedDict):
    """One event of a stream; `usage` as in a chat's chunk."""

    id: str
    object: Literal["text_completion"]
    created: int
    choices: list[TextChoice]
    model: str
    usage: NotRequired[TokenUsage | None]
