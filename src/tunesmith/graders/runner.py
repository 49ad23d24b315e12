"""Runs a grader over one sample.

Models are asked through a function that the caller hands in. A run that finds no score for its sample has the reward 0
and the reason in its record's `faults`.
"""

from collections.abc import Awaitable
from typing import NamedTuple, Protocol

import orjson
from anyio import to_thread

from tunesmith.errors import ServerFault
from tunesmith.graders.cosine import Cosine, without_model
from tunesmith.graders.formula import FormulaResultError
from tunesmith.graders.grader import (
    LABEL,
    Grader,
    LabelModel,
    Leaf,
    ModelGrader,
    Multi,
    ScoreModel,
    StringCheck,
    TextSimilarity,
    combine,
    leaves,
    score,
)
from tunesmith.graders.python_code import GradePython, PythonFault, PythonGrader, without_jail
from tunesmith.graders.results import Record, read_score
from tunesmith.graders.templates import NoValue, Variables, fill

Messages = list[tuple[str, str]]  # (role, text)


class Wrote(NamedTuple):
    """What a grader's model answered.

    `cut`: it was not done when it reached its limit of tokens.
    """

    model: str
    text: str
    cut: bool = False


class AskModel(Protocol):
    """Lets a grader's model answer, and adds the tokens that it took to the record."""

    def __call__(self, grader: ModelGrader, messages: Messages, record: Record, /) -> Awaitable[Wrote]:
        """Asks the grader's model."""
        ...


class Helpers(NamedTuple):
    """Who does what this module cannot: ask models, run code, embed texts."""

    ask: AskModel
    python: GradePython = without_jail
    cosine: Cosine = without_model


async def run(grader: Grader, variables: Variables, record: Record, helpers: Helpers) -> None:
    """Fills in the record: scores by sub-grader, tokens, faults and the reward."""
    for called, leaf in leaves(grader).items():
        await _grade(called, leaf, variables, record, helpers)
    if not record.faults:
        _reward(grader, record)


async def _grade(called: str, leaf: Leaf, variables: Variables, record: Record, helpers: Helpers) -> None:
    try:
        if isinstance(leaf, ScoreModel | LabelModel):
            found = await _ask(leaf, variables, record, helpers.ask)
        elif isinstance(leaf, PythonGrader):
            found = await helpers.python(leaf, variables)
        elif isinstance(leaf, StringCheck):
            found = score(leaf, variables, helpers.cosine)  # takes less than a thread does
        else:
            found = await to_thread.run_sync(score, leaf, variables, helpers.cosine)
    except NoValue as fault:
        record.faults[fault.flag] = fault.message
    except PythonFault as fault:
        record.faults[fault.flag] = fault.message
        if fault.kind is not None:
            record.faults[f"{fault.flag}_type"] = fault.kind
    except ServerFault as fault:  # of the model's engine
        flag = "other_error" if isinstance(leaf, TextSimilarity) else "model_grader_server_error"
        record.faults[flag] = fault.message
    else:
        if found is not None:
            record.scores[called] = found


async def _ask(leaf: ModelGrader, variables: Variables, record: Record, ask: AskModel) -> float | None:
    """The score that the model wrote; None, with a fault recorded, where it wrote none.

    A number beyond the grader's range counts as the end of the range.
    """
    messages = await to_thread.run_sync(_filled, leaf, variables)
    wrote = await ask(leaf, messages, record)
    if isinstance(leaf, ScoreModel):
        found, wanted = read_score(wrote.text), f"one number from {leaf.low:g} to {leaf.high:g}"
        if found is not None:
            return min(max(found, leaf.low), leaf.high)
    else:
        label, wanted = _label(wrote.text), "one of the labels"
        if label is not None:
            return float(label in leaf.passing)
    flag = "model_grader_exceeded_max_tokens_error" if wrote.cut else "model_grader_parse_error"
    record.faults[flag] = f"{wrote.model} should have written {wanted} and wrote {wrote.text[:200]!r}."
    return None


def _label(text: str) -> str | None:
    """What a label_model chose; None for an answer that was cut before it ended."""
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    label = value.get(LABEL) if isinstance(value, dict) else None
    return label if isinstance(label, str) else None


def _filled(leaf: ModelGrader, variables: Variables) -> Messages:
    return [(role, fill(text, variables, f"{leaf.name}.input")) for role, text in leaf.messages]


def _reward(grader: Grader, record: Record) -> None:
    if not isinstance(grader, Multi):
        record.reward = record.scores[grader.name]
        return
    try:
        record.reward = combine(grader, record.scores)
    except FormulaResultError as fault:
        record.faults["other_error"] = fault.message
