"""Runs a grader over one sample.

Models are asked through a function that the caller hands in. A run that finds no score for its sample has the reward 0
and the reason in its record's `faults`.
"""

from collections.abc import Awaitable
from typing import Protocol

from anyio import to_thread

from tunesmith.errors import ServerFault
from tunesmith.graders.formula import FormulaResultError
from tunesmith.graders.grader import Grader, Leaf, Multi, ScoreModel, combine, leaves, score
from tunesmith.graders.results import Record, read_score
from tunesmith.graders.templates import NoValue, Variables, fill

Messages = list[tuple[str, str]]  # (role, text)


class AskModel(Protocol):
    """Lets a grader's model answer: (the model's name, its text).

    Adds the tokens that it took to the record.
    """

    def __call__(self, grader: ScoreModel, messages: Messages, record: Record, /) -> Awaitable[tuple[str, str]]:
        """Asks the grader's model."""
        ...


async def run(grader: Grader, variables: Variables, record: Record, ask: AskModel) -> None:
    """Fills in the record: scores by sub-grader, tokens, faults and the reward."""
    for called, leaf in leaves(grader).items():
        await _grade(called, leaf, variables, record, ask)
    if not record.faults:
        _reward(grader, record)


async def _grade(called: str, leaf: Leaf, variables: Variables, record: Record, ask: AskModel) -> None:
    try:
        if isinstance(leaf, ScoreModel):
            found = await _ask(leaf, variables, record, ask)
        else:
            found = await to_thread.run_sync(score, leaf, variables)
    except NoValue as fault:
        record.faults[fault.flag] = fault.message
    except ServerFault as fault:  # of the model's engine
        record.faults["model_grader_server_error"] = fault.message
    else:
        if found is not None:
            record.scores[called] = found


async def _ask(leaf: ScoreModel, variables: Variables, record: Record, ask: AskModel) -> float | None:
    """The score that the model wrote; None, with a fault recorded, where it wrote none within the range."""
    messages = await to_thread.run_sync(_filled, leaf, variables)
    name, text = await ask(leaf, messages, record)
    found = read_score(text)
    if found is not None and leaf.low <= found <= leaf.high:
        return found
    record.faults["model_grader_parse_error"] = (
        f"{name} should have written one number from {leaf.low:g} to {leaf.high:g} and wrote {text[:200]!r}."
    )
    return None


def _filled(leaf: ScoreModel, variables: Variables) -> Messages:
    return [(role, fill(text, variables, f"{leaf.name}.input")) for role, text in leaf.messages]


def _reward(grader: Grader, record: Record) -> None:
    if not isinstance(grader, Multi):
        record.reward = record.scores[grader.name]
        return
    try:
        record.reward = combine(grader, record.scores)
    except FormulaResultError as fault:
        record.faults["other_error"] = fault.message
