"""What a run's `data_source` says: what is asked of which model, and how."""

from typing import cast

from tunesmith.errors import InvalidRequest
from tunesmith.evals.runs.criteria import OF_SAMPLE
from tunesmith.evals.runs.samples import SEED, Asking, referred
from tunesmith.graders.templates import PATH, checked_template
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.settings import Settings
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat
from tunesmith.wire.evals.bodies import (
    CompletionsParams,
    JsonlData,
    ReferenceInput,
    ResponsesParams,
    ResponsesText,
    ResponsesTool,
    SampledData,
    TemplateInput,
)
from tunesmith.wire.faults import invalid_value, missing, wrong_type

DATA = "data_source"
KINDS = ("jsonl", "completions", "responses")


def read_asking(data_source: JsonObject, settings: Settings) -> Asking:
    """What a run asks for each row; no model where the rows' own samples are graded.

    Raises InvalidRequest that names the field.
    """
    kind = kind_of_data(data_source, DATA, KINDS)
    if kind == "jsonl":
        read(JsonlData, data_source, DATA)
        return Asking("", None, None, {}, settings.chat_max_tokens)
    data = read(SampledData, data_source, DATA)
    sampling = _sampling(kind, cast(JsonValue, data.sampling_params))
    most = cast(int, sampling.get("max_completion_tokens", settings.chat_max_tokens))
    template, reference = _messages(cast(JsonValue, data.input_messages))
    if data.model is None:
        return Asking("", None, None, sampling, most)
    if template is None and reference is None:
        raise missing(f"{DATA}.input_messages")
    return Asking(data.model, template, reference, sampling, most)


def kind_of_data(value: JsonValue, param: str, kinds: tuple[str, ...]) -> str:
    """The `type` of an object that has several forms. Raises InvalidRequest."""
    if not isinstance(value, dict):
        raise wrong_type(param, "an object", value)
    kind = value.get("type")
    if kind is None:
        raise missing(f"{param}.type")
    if not isinstance(kind, str) or kind not in kinds:
        raise invalid_value(f"{param}.type", f"{kind!r:.60} is not one of {', '.join(kinds)}. - '{param}.type'")
    return kind


def _messages(value: JsonValue) -> tuple[tuple[tuple[str, str], ...] | None, str | None]:
    """(template, reference), one of which is None."""
    if value is None:
        return None, None
    param = f"{DATA}.input_messages"
    if kind_of_data(value, param, ("template", "item_reference")) == "item_reference":
        reference = read(ReferenceInput, value, param).item_reference
        if PATH.fullmatch(reference) is None:
            referred({}, reference)
        return None, reference
    found = []
    for place, message in enumerate(read(TemplateInput, value, param).template):
        where = f"{param}.template[{place}].content"
        text = checked_template(message.content, where)
        if OF_SAMPLE.search(text):
            raise InvalidRequest(f"There is no sample yet when the model is asked: use item. - '{where}'", param=where)
        found.append((message.role, text))
    return tuple(found), None


def _sampling(kind: str, value: JsonValue) -> JsonObject:
    """Fields of a chat request."""
    if value is None:
        return {"seed": SEED}
    param = f"{DATA}.sampling_params"
    params = read(ResponsesParams if kind == "responses" else CompletionsParams, value, param)
    tokens = params.max_completions_tokens if params.max_completion_tokens is None else params.max_completion_tokens
    fields: dict[str, JsonValue] = {
        "seed": SEED if params.seed is None else params.seed,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "max_completion_tokens": tokens,
    }
    given = cast(JsonObject, value)
    if isinstance(params, ResponsesParams):
        fields |= {"response_format": _format(params.text), "tools": [_tool(one) for one in params.tools]}
    else:
        fields |= {name: given.get(name) for name in ("response_format", "tools")}
    sampling: JsonObject = {name: one for name, one in fields.items() if one is not None and one != []}
    read(Chat, {"model": "", "messages": [], **sampling}, param)
    return sampling


def _format(text: ResponsesText | None) -> JsonValue:
    """`text.format` in chat's words, where a schema stands a level deeper."""
    given = None if text is None or text.format is None else cast(JsonObject, text.format)
    if given is None or given.get("type") != "json_schema":
        return given
    inner = {name: value for name, value in given.items() if name != "type"}
    return {"type": "json_schema", "json_schema": inner}


def _tool(tool: ResponsesTool) -> JsonObject:
    fields = cast(JsonObject, tool.model_dump(exclude={"type"}, exclude_none=True))
    return {"type": "function", "function": fields}
