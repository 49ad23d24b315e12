"""A computation whose memory was not enough, once more in pieces half as large."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from tunesmith.errors import TrainerError
from tunesmith.system.memory import is_out_of_memory
from tunesmith.train.core.batches import Example
from tunesmith.train.core.device import free_unused
from tunesmith.train.objective import Objective
from tunesmith.train.protocol.events import Listener, Log

Result = TypeVar("Result")


class OutOfMemory(TrainerError):
    """Not even half of the tokens fit into the memory at once."""


def retried(
    objective: Objective,
    work: Callable[[Objective], Result],
    examples: Sequence[Example],
    what: str,
    emit: Listener,
) -> tuple[Objective, Result]:
    """The objective that `work` succeeded with, and what it returned.

    The run goes on with that objective. `work` begins anew when it is called again. `what` names it, such as "Step 7".
    Raises OutOfMemory where the second try fails too.
    """
    try:
        return objective, work(objective)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    free_unused()  # only here: until the exception is gone, its frames hold the tensors
    smaller = objective.in_smaller_pieces(examples)
    emit(Log("warn", f"{what} did not fit into memory: it is computed again, in pieces half as large from here on."))
    try:
        return smaller, work(smaller)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(_sentence(examples, what), code="out_of_memory") from error


def once(objective: Objective, work: Callable[[Objective], Result], examples: Sequence[Example], what: str) -> Result:
    """What `work` returns.

    Raises OutOfMemory where it does not fit.
    """
    try:
        return work(objective)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        text = f"{what} does not fit into memory beside a part of the weights. {_cure(examples)}, or more ranks."
        raise OutOfMemory(text, code="out_of_memory") from error


def _sentence(examples: Sequence[Example], what: str) -> str:
    text = f"{what} does not fit into memory, not even in pieces half as large."
    return f"{text} {_cure(examples)}, or a device with more memory."


def _cure(examples: Sequence[Example]) -> str:
    longest = max(examples, key=lambda example: example.tokens)
    return (
        f"Its longest row is line {longest.line}, with {longest.tokens:,} tokens, and a row cannot be divided: shorten "
        "such rows, take a smaller base"
    )
