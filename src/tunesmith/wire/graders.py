"""Graders as OpenAI describes them, and the bodies and answers of their routes.

Not covered: what a grader's texts may refer to, and its formula: `tunesmith.graders` reads those.
"""

import secrets
import string
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field
from typing_extensions import TypedDict

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.wire.body import FIRST_FAULT, ChatBody, Refused, described_as
from tunesmith.wire.chat.bodies import Seed
from tunesmith.wire.faults import worded

TEXT_PARTS = ("input_text", "output_text", "text")
MAX_MESSAGES = 128  # of a score_model or label_model
MAX_LABELS = 500
MAX_TEXT = 100_000  # characters of a template, as of what it becomes
MAX_SOURCE = 256_000  # bytes of a python grader, as at OpenAI


def _not_empty(text: str) -> str:
    if not text:
        message = "An empty text says nothing here."
        raise worded(lambda param: InvalidRequest(f"{message} - '{param}'", param=param, code="empty_string"))
    return text


def _lowest_first(scores: list[float]) -> list[float]:
    if not scores[0] < scores[1]:
        message = "A range is two numbers, the lower one first, such as [0, 10]."
        raise worded(lambda param: InvalidRequest(f"{message} - '{param}'", param=param))
    return scores


def _content_text(value: object) -> str:
    """A text, a text part, or a list of them, a line each."""
    return _short("\n".join(_part(part) for part in (value if isinstance(value, list) else [value])))


def _short(text: str) -> str:
    if len(text) > MAX_TEXT:
        message = f"A text has {len(text):,} characters; at most {MAX_TEXT:,} are graded."
        raise worded(lambda param: InvalidRequest(f"{message} - '{param}'", param=param))
    return text


def _short_source(source: str) -> str:
    size = len(source.encode("utf-8", "surrogatepass"))
    if size >= MAX_SOURCE:
        message = f"The source has {size:,} bytes; it must have fewer than {MAX_SOURCE:,}."
        raise worded(lambda param: InvalidRequest(f"{message} - '{param}'", param=param))
    return source


def _part(value: object) -> str:
    match value:
        case str():
            return value
        case {"type": str() as kind, "text": str() as text} if kind in TEXT_PARTS:
            return text
    message = (
        'The content of a message is a text or {"type": "input_text", "text": "..."}; images and audio are not read'
        " here."
    )
    raise worded(lambda param: InvalidRequest(f"{message} - '{param}'", param=param))


def _no_reasoning(_: object) -> object:
    message = "Models here do not reason before they answer; leave it out."
    raise worded(lambda param: InvalidRequest(message, param=param))


def _invented_name() -> str:
    """A name as OpenAI makes one up for a grader without."""
    return "grader-" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12))


NAME = "The scores of a run are listed by it; without one it gets a name such as grader-VasDqHrerHW5."
Name: TypeAlias = Annotated[str, AfterValidator(_not_empty)]
Metric: TypeAlias = Literal[
    "cosine", "fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
]
Score: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Range: TypeAlias = Annotated[list[Score], Field(min_length=2, max_length=2), FIRST_FAULT, AfterValidator(_lowest_first)]
Template: TypeAlias = Annotated[str, AfterValidator(_short)]
Source: TypeAlias = Annotated[str, AfterValidator(_not_empty), AfterValidator(_short_source)]
Content: TypeAlias = Annotated[
    str, BeforeValidator(_content_text, json_schema_input_type=str | dict[str, object] | list[str | dict[str, object]])
]


class GraderBody(ChatBody):
    """What all graders have."""

    name: Name = Field(default_factory=_invented_name, description=NAME)
    pass_threshold: Score | None = Field(
        None, description="From which score on an eval counts a row as passed. Changes no score."
    )


class StringCheckBody(GraderBody):
    """A `string_check` grader."""

    type: Literal["string_check"] = Field(description="string_check.")
    input: Template = Field(description="A text, usually with placeholders.")
    reference: Template = Field(description="What the input is compared with.")
    operation: Literal["eq", "ne", "like", "ilike"] = Field(
        description="eq, ne, like (the input contains the reference) or ilike (the same, ignoring case)."
    )


class TextSimilarityBody(GraderBody):
    """A `text_similarity` grader."""

    type: Literal["text_similarity"] = Field(description="text_similarity.")
    input: Template = Field(description="A text, usually with placeholders.")
    reference: Template = Field(description="What the input is compared with.")
    evaluation_metric: Metric = Field(
        description="fuzzy_match (rapidfuzz's ratio), bleu (sacrebleu's), gleu (nltk's), rouge_1 to rouge_5 or rouge_l "
        "(rouge-score's), meteor where nltk and WordNet are installed, cosine where the server has an embedding model."
    )


class GradingMessage(ChatBody):
    """A message for the model that scores; images and audio are refused."""

    role: Literal["user", "assistant", "system", "developer"] = Field(
        description="user, assistant, system or developer."
    )
    content: Content = Field(
        description="A text or text parts, usually with placeholders; images and audio are refused."
    )
    type: object = Field(None, description="Changes nothing.")


class GradingParams(ChatBody):
    """How the model that scores is sampled.

    `max_completions_tokens` is OpenAI's spelling.
    """

    seed: Seed | None = Field(None, description="A 64-bit integer.")
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="0 to 1.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description="0 to 2.")
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="At least 1.")
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Another spelling of max_completions_tokens."
    )
    reasoning_effort: Annotated[Refused, BeforeValidator(_no_reasoning)] = Field(
        None, description="Models here do not reason before they answer."
    )

    def chat_fields(self) -> JsonObject:
        """Under the names of a chat request, only what is given."""
        tokens = self.max_completion_tokens if self.max_completions_tokens is None else self.max_completions_tokens
        fields = {"seed": self.seed, "top_p": self.top_p, "temperature": self.temperature}
        return {name: value for name, value in {**fields, "max_completion_tokens": tokens}.items() if value is not None}


class ScoreModelBody(GraderBody):
    """A `score_model` grader: a model writes the score."""

    type: Literal["score_model"] = Field(description="score_model.")
    model: Name = Field(description="A model of this server.")
    range: Range = Field(
        default_factory=lambda: [0.0, 1.0], description="The lowest and the highest score; unset: 0 to 1."
    )
    input: Annotated[list[GradingMessage], Field(min_length=1, max_length=MAX_MESSAGES), FIRST_FAULT] = Field(
        description="The messages that the model gets, at most 128."
    )
    sampling_params: GradingParams = Field(GradingParams(), description="As in a chat request.")


class LabelModelBody(GraderBody):
    """A `label_model` grader: a model chooses one of the labels."""

    type: Literal["label_model"] = Field(description="label_model.")
    model: Name = Field(description="A model of this server.")
    input: Annotated[list[GradingMessage], Field(min_length=1, max_length=MAX_MESSAGES), FIRST_FAULT] = Field(
        description="The messages that the model gets, at most 128."
    )
    labels: Annotated[list[Name], Field(min_length=1, max_length=MAX_LABELS), FIRST_FAULT] = Field(
        description="What it may answer; it can write nothing else."
    )
    passing_labels: Annotated[list[Name], Field(max_length=MAX_LABELS), FIRST_FAULT] = Field(
        description="The labels that score 1, each one of `labels`; the others score 0."
    )
    sampling_params: GradingParams = Field(GradingParams(), description="As in a chat request.")


class PythonBody(GraderBody):
    """A `python` grader: code of the user, run in a jail."""

    type: Literal["python"] = Field(description="python.")
    source: Source = Field(
        description="Python with a function `grade(sample: dict, item: dict) -> float`, fewer than 256,000 bytes. It "
        "runs without network and files, with limits of time and memory; refused where the kernel cannot jail it."
    )
    image_tag: str | None = Field(None, description="Changes nothing: the Python is the one that Tunesmith runs on.")


class MultiBody(GraderBody):
    """A `multi` grader: a formula over the scores of others.

    `graders.grader` reads those one by one.
    """

    type: Literal["multi"] = Field(description="multi.")
    graders: Annotated[object, described_as(dict[str, object] | list[object])] = Field(
        None, description="Up to 20 graders of the other types, as an object or a list."
    )
    calculate_output: Name = Field(
        description="A formula of their names and numbers, with + - * / ^, brackets and min, max, abs, floor, ceil, "
        "exp, sqrt, log. Characters of a name other than letters, digits and _ become _."
    )


class ValidateGrader(ChatBody):
    """The body of `POST /v1/fine_tuning/alpha/graders/validate`."""

    grader: Annotated[object, described_as(dict[str, object])] = Field(
        description="A string_check, text_similarity, score_model, label_model, python or multi."
    )


class RunGrader(ValidateGrader):
    """The body of `POST /v1/fine_tuning/alpha/graders/run`.

    `item` is a row of a dataset.
    """

    model_sample: Template = Field(description="The answer to score; JSON in it is also there as sample.output_json.")
    item: dict[str, object] = Field(
        default_factory=dict, description="A row of a dataset, for the placeholders {{item.NAME}}."
    )


class ValidatedGrader(TypedDict):
    """The answer of `/validate`: the grader as it was sent."""

    grader: dict[str, object]


class GraderMetadata(TypedDict):
    """How a run went. `execution_time` in seconds."""

    name: str
    type: str
    errors: dict[str, bool | str | None]
    execution_time: float
    scores: dict[str, float]
    token_usage: int | None
    sampled_model_name: str | None


class GraderRun(TypedDict):
    """The answer of `/run`."""

    reward: float
    metadata: GraderMetadata
    sub_rewards: dict[str, float]
    model_grader_token_usage_per_model: dict[str, dict[str, int]]
