"""Graders as OpenAI describes them, read from JSON and, where no model is needed, applied.

`string_check` and `text_similarity` are scored here; `score_model` is asked by the API; `multi` joins the scores of
others. Refused by name: `python`, which would run a user's code on the server, and `label_model`.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tunesmith.errors import InvalidRequest
from tunesmith.graders.fields import choice, known_only, messages, number_range, sampling, text
from tunesmith.graders.formula import FormulaError, calculate, read_formula
from tunesmith.graders.similarity import METRICS
from tunesmith.graders.templates import Variables, fill
from tunesmith.jsonvalue import JsonObject, JsonValue

OPERATIONS = ("eq", "ne", "like", "ilike")
TYPES = ("string_check", "text_similarity", "score_model", "multi")
REFUSED_TYPES = {
    "python": "it would run code on this server without a sandbox; a string_check, text_similarity or multi grader"
    " can often say the same",
    "label_model": "use a score_model grader, or a string_check on the label that the model wrote",
}
REFUSED_METRICS = {
    "cosine": "it needs an embedding model, and this server has none",
    "meteor": "it needs the WordNet database, which this server does not download",
}
MAX_GRADERS = 20  # of one multi grader; each may ask a model


@dataclass(frozen=True, slots=True)
class StringCheck:
    name: str
    input: str
    reference: str
    operation: str

    type = "string_check"


@dataclass(frozen=True, slots=True)
class TextSimilarity:
    name: str
    input: str
    reference: str
    metric: str

    type = "text_similarity"


@dataclass(frozen=True, slots=True)
class ScoreModel:
    name: str
    model: str
    messages: tuple[tuple[str, str], ...]  # (role, text with places)
    sampling: JsonObject  # fields of a chat request
    low: float
    high: float

    type = "score_model"


Leaf: TypeAlias = StringCheck | TextSimilarity | ScoreModel


@dataclass(frozen=True, slots=True)
class Multi:
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
    if isinstance(kind, str) and kind in REFUSED_TYPES:
        raise InvalidRequest(f"{kind} graders are not run here: {REFUSED_TYPES[kind]}.", param=f"{param}.type")
    match choice(value, "type", TYPES, param):
        case "string_check":
            return _string_check(value, param)
        case "text_similarity":
            return _text_similarity(value, param)
        case "score_model":
            return _score_model(value, param)
    return _multi(value, param)


def leaves(grader: Grader) -> Mapping[str, Leaf]:
    """The graders that score something themselves, by the name that a formula would call them."""
    return grader.graders if isinstance(grader, Multi) else {grader.name: grader}


def score(grader: StringCheck | TextSimilarity, variables: Variables) -> float:
    """From 0 to 1. NoValue where a place cannot be filled in."""
    text = fill(grader.input, variables, f"{grader.name}.input")
    reference = fill(grader.reference, variables, f"{grader.name}.reference")
    if isinstance(grader, TextSimilarity):
        return METRICS[grader.metric](text, reference)
    return float(_passes(grader.operation, text, reference))


def combine(grader: Multi, scores: Mapping[str, float]) -> float:
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


def _string_check(value: JsonObject, param: str) -> StringCheck:
    known_only(value, ("type", "name", "input", "reference", "operation"), param)
    return StringCheck(
        text(value, "name", param),
        text(value, "input", param, template=True),
        text(value, "reference", param, template=True),
        choice(value, "operation", OPERATIONS, param),
    )


def _text_similarity(value: JsonObject, param: str) -> TextSimilarity:
    known_only(value, ("type", "name", "input", "reference", "evaluation_metric"), param)
    metric = choice(value, "evaluation_metric", (*METRICS, *REFUSED_METRICS), param)
    if metric in REFUSED_METRICS:
        raise InvalidRequest(
            f"The metric {metric} is not there: {REFUSED_METRICS[metric]}. Use one of {', '.join(METRICS)}.",
            param=f"{param}.evaluation_metric",
        )
    return TextSimilarity(
        text(value, "name", param),
        text(value, "input", param, template=True),
        text(value, "reference", param, template=True),
        metric,
    )


def _score_model(value: JsonObject, param: str) -> ScoreModel:
    known_only(value, ("type", "name", "model", "input", "sampling_params", "range"), param)
    low, high = number_range(value, param)
    return ScoreModel(
        text(value, "name", param),
        text(value, "model", param),
        messages(value.get("input"), f"{param}.input"),
        sampling(value.get("sampling_params"), f"{param}.sampling_params"),
        low,
        high,
    )


def _multi(value: JsonObject, param: str) -> Multi:
    known_only(value, ("type", "name", "graders", "calculate_output"), param)
    graders: dict[str, Leaf] = {}
    for called, one, place in _sub_graders(value.get("graders"), f"{param}.graders"):
        grader = read_grader(one, place)
        if isinstance(grader, Multi):
            raise InvalidRequest("A multi grader cannot hold another one.", param=place)
        called = re.sub(r"\W", "_", called or grader.name)
        if called in graders:
            raise InvalidRequest(f"Two sub-graders are called {called!r}; the formula cannot tell them.", param=place)
        graders[called] = grader
    place = f"{param}.calculate_output"
    try:
        formula = read_formula(text(value, "calculate_output", param), frozenset(graders))
    except FormulaError as error:
        raise InvalidRequest(error.message, param=place) from error
    return Multi(text(value, "name", param), graders, formula)


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
