"""Answers that another model gave earlier, as a third side.

Such as those of a model that is being left. They are chat rows with the same questions; the assistant's message is the
recorded answer. `tunesmith replay` writes such files.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import orjson

from tunesmith.errors import InvalidRequest
from tunesmith.evals.answers import Answer, Pair
from tunesmith.evals.criteria import Reply
from tunesmith.evals.evaluation import Evaluation, evaluate
from tunesmith.evals.questions import Question, read_questions
from tunesmith.evals.wording import counted
from tunesmith.jsonvalue import JsonObject


def read_recorded(path: Path) -> dict[bytes, Reply]:
    """The answers of a file, by what they answer.

    Raises InvalidRequest where it has none.
    """
    return {_key(one): one.reference for one in read_questions(path)}


def with_recorded(found: Evaluation, answers: dict[bytes, Reply], name: str) -> Evaluation:
    """The evaluation with the recorded answers against its side after.

    Raises InvalidRequest where they answer none of its questions.
    """
    pairs = [
        Pair(pair.question, _answer(answers[_key(pair.question)], name), pair.after)
        for pair in found.pairs
        if _key(pair.question) in answers
    ]
    if not pairs:
        raise InvalidRequest(
            f"{name} answers none of the {counted(len(found.pairs), 'question')}: each of its rows needs the same "
            "messages as the question, followed by the recorded answer."
        )
    third = replace(evaluate(name, found.after, pairs), measures=(), timed=False)
    missing = len(found.pairs) - len(pairs)
    if missing:
        note = f"{name} has no answer to {missing:,} of the {len(found.pairs):,} questions"
        third = replace(third, notes=(*third.notes, note))
    return replace(found, recorded=third)


def recorded_reply(found: Evaluation, pair: Pair) -> Reply | None:
    """What was recorded for a question, to stand beside the other answers."""
    others: Iterable[Pair] = () if found.recorded is None else found.recorded.pairs
    return next((one.before.reply for one in others if one.question is pair.question), None)


def _answer(reply: Reply, name: str) -> Answer:
    return Answer(reply, name, f"recorded in {name}", prompt_tokens=0, tokens=0, seconds=0.0)


def _key(question: Question) -> bytes:
    return orjson.dumps([_plain(one) for one in question.messages], option=orjson.OPT_SORT_KEYS)


def _plain(message: JsonObject) -> JsonObject:
    """A message without keys that are null, as another export may write them."""
    return {key: value for key, value in message.items() if value is not None}
