"""The bodies of `/v1/evals`.

Not covered: what testing criteria say, which `graders.grader` reads, and a schema, which `evals.runs` compiles.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from tunesmith.errors import InvalidRequest
from tunesmith.wire.body import FIRST_FAULT, ChatBody, Ignored, Metadata, Refused, Text, described_as
from tunesmith.wire.chat.bodies import Seed
from tunesmith.wire.faults import worded
from tunesmith.wire.graders import GradingMessage
from tunesmith.wire.limits import MAX_TOOLS
from tunesmith.wire.response_format import ResponseFormat
from tunesmith.wire.tools import FunctionTool

MAX_CRITERIA = 20  # of an eval; each may ask a model for every row
MAX_TEMPLATE = 128  # messages
MAX_NAME = 256  # characters
OBJECT = dict[str, object]


def _no_reasoning(_: object) -> object:
    message = "Models here do not reason before they answer; leave it out."
    raise worded(lambda param: InvalidRequest(message, param=param))


def _short(name: str) -> str:
    if len(name) > MAX_NAME:
        message = f"The name has {len(name):,} characters; at most {MAX_NAME} are kept."
        raise worded(lambda param: InvalidRequest(f"{message} - '{param}'", param=param))
    return name


Name: TypeAlias = Annotated[Text, AfterValidator(_short)]
Object: TypeAlias = Annotated[dict[str, object], Field()]
Time: TypeAlias = Annotated[int, Field(ge=0)]


class CustomConfig(ChatBody):
    """Data whose items have a schema of the user's."""

    type: Literal["custom"] = Field(description="custom.")
    item_schema: Object = Field(description="A JSON schema that each row's `item` follows.")
    include_sample_schema: bool = Field(
        False, description="Whether the criteria refer to a model's answer; only shown in the schema."
    )


class StoredConfig(ChatBody):
    """Data that are this project's stored chat completions."""

    type: Literal["logs", "stored_completions"] = Field(description="logs, or its older name stored_completions.")
    metadata: Object | None = Field(
        None, description="Metadata that the stored completions of a run have, unless the run says otherwise."
    )


class CreateEval(ChatBody):
    """The body of `POST /v1/evals`."""

    name: Name | None = Field(None, description="Up to 256 characters; unset: the first criterion's.")
    metadata: Metadata = Field(None, description="Up to 16 pairs, keys of 1 to 64 characters, values of at most 512.")
    data_source_config: Annotated[object, described_as(OBJECT)] = Field(
        description='{"type": "custom", "item_schema", "include_sample_schema"}, or {"type": "logs", "metadata"} for '
        "stored chat completions (also called stored_completions)."
    )
    testing_criteria: Annotated[list[Annotated[object, described_as(OBJECT)]], FIRST_FAULT] = Field(
        min_length=1,
        max_length=MAX_CRITERIA,
        description="1 to 20 graders: string_check, text_similarity (with pass_threshold), label_model, score_model, "
        "python or multi.",
    )


class UpdateEval(ChatBody):
    """The body of `POST /v1/evals/{eval_id}`."""

    name: Name | None = Field(None, description="The new name; unset: as it was.")
    metadata: Metadata = Field(None, description="Replaces the old pairs; unset: as they were.")


class CreateRun(ChatBody):
    """The body of `POST /v1/evals/{eval_id}/runs`."""

    name: Name | None = Field(None, description="Up to 256 characters; unset: the model's name.")
    metadata: Metadata = Field(None, description="Up to 16 pairs, keys of 1 to 64 characters, values of at most 512.")
    data_source: Annotated[object, described_as(OBJECT)] = Field(
        description='{"type": "jsonl", "source"} grades rows as they are; {"type": "completions" or "responses", '
        '"source", "input_messages", "model", "sampling_params"} lets a model answer them. A source of '
        "stored responses is refused."
    )


class ContentRow(ChatBody):
    """A row of a run's data."""

    item: Object = Field(description="What the placeholders {{item.NAME}} stand for.")
    sample: Object | None = Field(
        None, description="An answer to grade as it is: output_text, output_json, output_tools or choices."
    )


class ContentSource(ChatBody):
    """Rows in the request itself."""

    type: Literal["file_content"] = Field(description="file_content.")
    content: Annotated[list[ContentRow], FIRST_FAULT] = Field(min_length=1, description="The rows.")


class FileSource(ChatBody):
    """Rows in an uploaded file, a JSON object a line."""

    type: Literal["file_id"] = Field(description="file_id.")
    id: str = Field(description="The file's id.")


class StoredSource(ChatBody):
    """The project's stored chat completions, oldest first."""

    type: Literal["stored_completions"] = Field(description="stored_completions.")
    metadata: Object | None = Field(None, description="All pairs must match.")
    model: str | None = Field(None, description="The model that answered, or the name that was asked for.")
    created_after: Time | None = Field(None, description="Unix seconds.")
    created_before: Time | None = Field(None, description="Unix seconds.")
    limit: Annotated[int, Field(ge=1)] | None = Field(
        None, description="At most so many; unset: the setting eval_rows."
    )


class TemplateInput(ChatBody):
    """Messages with placeholders."""

    type: Literal["template"] = Field(description="template.")
    template: Annotated[list[GradingMessage], FIRST_FAULT] = Field(
        min_length=1, max_length=MAX_TEMPLATE, description="The messages, with {{item.NAME}} in their texts."
    )


class ReferenceInput(ChatBody):
    """Messages that each row has itself."""

    type: Literal["item_reference"] = Field(description="item_reference.")
    item_reference: str = Field(description="Where: `item.input`.")


class SamplingParams(ChatBody):
    """How the model that answers is sampled."""

    seed: Seed | None = Field(None, description="A 64-bit integer; unset: 42.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description="0 to 2; unset: 1.")
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="0 to 1; unset: 1.")
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="At least 1; unset: the setting chat_max_tokens."
    )
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Another spelling of max_completion_tokens."
    )
    reasoning_effort: Annotated[Refused, BeforeValidator(_no_reasoning)] = Field(
        None, description="Models here do not reason before they answer."
    )


class CompletionsParams(SamplingParams):
    """The same, with what only chat has."""

    response_format: ResponseFormat | None = Field(None, description="As in a chat request.")
    tools: Annotated[list[FunctionTool], FIRST_FAULT] = Field(
        default_factory=list, max_length=MAX_TOOLS, description="Functions, as in a chat request."
    )


class ResponsesTool(ChatBody):
    """A function as the Responses API declares it."""

    type: Literal["function"] = Field(description="function; other kinds of tools are refused.")
    name: str = Field(description="As in a chat request.")
    description: str | None = Field(None, description="As in a chat request.")
    parameters: Object | None = Field(None, description="As in a chat request.")
    strict: bool | None = Field(None, description="As in a chat request.")


class ResponsesText(ChatBody):
    """How the Responses API says what an answer looks like."""

    format: Object | None = Field(
        None, description="text, json_object, or json_schema with its fields beside the type."
    )
    verbosity: Ignored = Field(None, description="Changes nothing.")


class ResponsesParams(SamplingParams):
    """The same, in the Responses API's words."""

    text: ResponsesText | None = Field(None, description="What the answer looks like.")
    tools: Annotated[list[ResponsesTool], FIRST_FAULT] = Field(
        default_factory=list, max_length=MAX_TOOLS, description="Functions."
    )


class JsonlData(ChatBody):
    """Rows that are graded as they are."""

    type: Literal["jsonl"] = Field(description="jsonl.")
    source: Annotated[object, described_as(OBJECT)] = Field(description="file_content or file_id.")


class SampledData(ChatBody):
    """Rows that a model answers, or stored completions as they are."""

    type: Literal["completions", "responses"] = Field(description="completions or responses.")
    source: Annotated[object, described_as(OBJECT)] = Field(description="file_content, file_id or stored_completions.")
    input_messages: Annotated[object, described_as(OBJECT)] = Field(
        None, description="A template, or an item_reference such as item.input."
    )
    model: str | None = Field(
        None, description="A model of this server; unset: the samples that the rows have are graded as they are."
    )
    sampling_params: Annotated[object, described_as(OBJECT)] = Field(None, description="As in a chat request.")
