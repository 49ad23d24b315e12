"""Graders as OpenAI describes them: read, and applied if they need no model.

`string_check` and `text_similarity` are scored here; `runner` asks a model for a `score_model` or `label_model`, and
the jail for a `python` grader; `multi` combines the scores of others.
"""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from tunesmith.errors import InvalidRequest
from tunesmith.graders.cosine import COSINE, without_model
from tunesmith.graders.formula import FormulaError, calculate, read_formula
from tunesmith.graders.meteor import meteor
from tunesmith.graders.meteor import missing as meteor_lacks
from tunesmith.graders.python_code import PythonGrader
from tunesmith.graders.similarity import METRICS
from tunesmith.graders.templates import Variables, checked_template, fill
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.wire.body import read
from tunesmith.wire.faults import invalid_value, missing
from tunesmith.wire.graders import (
    GradingMessage,
    LabelModelBody,
    MultiBody,
    PythonBody,
    ScoreModelBody,
    StringCheckBody,
    TextSimilarityBody,
)

TYPES = ("string_check", "text_similarity", "score_model", "label_model", "python", "multi")
LABEL = "label"  # the key under which a label_model writes its choice
MAX_GRADERS = 20  # of one multi grader; each may ask a model


@dataclass(frozen=True, slots=True)
class StringCheck:
    """Passes (1) or fails (0) by comparing two texts."""

    name: str
    input: str
    reference: str
    operation: str

    type = "string_check"


@dataclass(frozen=True, slots=True)
class TextSimilarity:
    """Scores how similar two texts are, 0 to 1."""

    name: str
    input: str
    reference: str
    metric: str
    param: str = "grader.evaluation_metric"

    type = "text_similarity"


@dataclass(frozen=True, slots=True)
class ScoreModel:
    """Lets a model write a score from `low` to `high`."""

    name: str
    model: str
    messages: tuple[tuple[str, str], ...]  # (role, text with places)
    sampling: JsonObject  # fields of a chat request
    low: float
    high: float

    type = "score_model"


@dataclass(frozen=True, slots=True)
class LabelModel:
    """Lets a model choose a label; 1 for a passing one, 0 for another."""

    name: str
    model: str
    messages: tuple[tuple[str, str], ...]
    sampling: JsonObject  # among them the answers that it may give, as a response format
    passing: frozenset[str]

    type = "label_model"


ModelGrader: TypeAlias = ScoreModel | LabelModel
Leaf: TypeAlias = StringCheck | TextSimilarity | ModelGrader | PythonGrader


@dataclass(frozen=True, slots=True)
class Multi:
    """Combines the scores of other graders by a formula."""

    name: str
    graders: Mapping[str, Leaf]  # by the name that the formula calls them
    formula: ast.expr

    type = "multi"


Grader: TypeAlias = Leaf | Multi


def read_grader(value: JsonValue, param: str = "grader") -> Grader:
    """Raises InvalidRequest that names the field."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"A grader is a JSON object with 'type' and 'name'. - '{param}'", param=param)
    kind = value.get("type")
    match kind:
        case "string_check":
            return _string_check(read(StringCheckBody, value, param), param)
        case "text_similarity":
            return _text_similarity(read(TextSimilarityBody, value, param), param)
        case "score_model":
            return _score_model(read(ScoreModelBody, value, param), param)
        case "label_model":
            return _label_model(read(LabelModelBody, value, param), param)
        case "python":
            body = read(PythonBody, value, param)
            return PythonGrader(body.name, body.source, f"{param}.source")
        case "multi":
            return _multi(read(MultiBody, value, param), param)
    raise _no_such_type(kind, f"{param}.type")


def leaves(grader: Grader) -> Mapping[str, Leaf]:
    """The graders that score something themselves, by their name in a formula."""
    return grader.graders if isinstance(grader, Multi) else {grader.name: grader}


def score(
    grader: StringCheck | TextSimilarity, variables: Variables, cosine: Callable[[str, str], float] = without_model
) -> float:
    """The score from 0 to 1.

    Raises NoValue where a place cannot be filled in, and what `cosine` raises.
    """
    text = fill(grader.input, variables, f"{grader.name}.input")
    reference = fill(grader.reference, variables, f"{grader.name}.reference")
    if isinstance(grader, TextSimilarity):
        return {**METRICS, "meteor": meteor, COSINE: cosine}[grader.metric](text, reference)
    return float(_passes(grader.operation, text, reference))


def combine(grader: Multi, scores: Mapping[str, float]) -> float:
    """The formula's value. Raises FormulaResultError where it has none."""
    return calculate(grader.formula, scores)


def _passes(operation: str, text: str, reference: str) -> bool:
    match operation:
        case "eq":
            return text == reference
        case "ne":
            return text != reference
        case "like":
            return reference in text
    return reference.casefold() in text.casefold()


def _no_such_type(kind: JsonValue, param: str) -> InvalidRequest:
    if kind is None:
        return missing(param)
    return invalid_value(param, f"{kind!r} is not one of {', '.join(TYPES)}. - '{param}'")


def _string_check(body: StringCheckBody, param: str) -> StringCheck:
    return StringCheck(
        body.name,
        checked_template(body.input, f"{param}.input"),
        checked_template(body.reference, f"{param}.reference"),
        body.operation,
    )


def _text_similarity(body: TextSimilarityBody, param: str) -> TextSimilarity:
    if body.evaluation_metric == "meteor" and (lacking := meteor_lacks()):
        raise InvalidRequest(f"The metric meteor is not available: {lacking}.", param=f"{param}.evaluation_metric")
    return TextSimilarity(
        body.name,
        checked_template(body.input, f"{param}.input"),
        checked_template(body.reference, f"{param}.reference"),
        body.evaluation_metric,
        f"{param}.evaluation_metric",
    )


def _score_model(body: ScoreModelBody, param: str) -> ScoreModel:
    low, high = body.range
    messages = _messages(body.input, param)
    return ScoreModel(body.name, body.model, messages, body.sampling_params.chat_fields(), low, high)


def _label_model(body: LabelModelBody, param: str) -> LabelModel:
    for index, label in enumerate(body.passing_labels):
        if label not in body.labels:
            place = f"{param}.passing_labels[{index}]"
            raise InvalidRequest(f"{label!r} is not one of the labels. - '{place}'", param=place)
    schema: JsonObject = {
        "type": "object",
        "properties": {LABEL: {"type": "string", "enum": list[JsonValue](dict.fromkeys(body.labels))}},
        "required": [LABEL],
        "additionalProperties": False,
    }
    held: JsonObject = {"type": "json_schema", "json_schema": {"name": LABEL, "strict": True, "schema": schema}}
    sampling = {**body.sampling_params.chat_fields(), "response_format": held}
    return LabelModel(body.name, body.model, _messages(body.input, param), sampling, frozenset(body.passing_labels))


def _messages(given: list[GradingMessage], param: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (message.role, checked_template(message.content, f"{param}.input[{index}].content"))
        for index, message in enumerate(given)
    )


def _multi(body: MultiBody, param: str) -> Multi:
    graders: dict[str, Leaf] = {}
    for called, one, place in _sub_graders(cast(JsonValue, body.graders), f"{param}.graders"):
        grader = read_grader(one, place)
        if isinstance(grader, Multi):
            raise InvalidRequest("A multi grader cannot hold another one.", param=place)
        called = re.sub(r"\W", "_", called or grader.name)
        if called in graders:
            message = f"Two sub-graders are called {called!r}; the formula cannot tell them apart."
            raise InvalidRequest(message, param=place)
        graders[called] = grader
    try:
        formula = read_formula(body.calculate_output, frozenset(graders))
    except FormulaError as error:
        raise InvalidRequest(error.message, param=f"{param}.calculate_output") from error
    return Multi(body.name, graders, formula)


def _sub_graders(value: JsonValue, param: str) -> list[tuple[str, JsonValue, str]]:
    """[(name in the formula or "", grader, where it stands)] of an object by name, a list, or a single grader."""
    match value:
        case {"type": str()}:
            found: list[tuple[str, JsonValue, str]] = [("", value, param)]
        case dict():
            found = [(called, one, f"{param}.{called}") for called, one in value.items()]
        case list():
            found = [("", one, f"{param}[{index}]") for index, one in enumerate(value)]
        case _:
            found = []
    if not 1 <= len(found) <= MAX_GRADERS:
        raise InvalidRequest(
            f"Between 1 and {MAX_GRADERS} sub-graders are needed, as {{\"NAME\": {{...}}}} or a list. - '{param}'",
            param=param,
        )
    return found
