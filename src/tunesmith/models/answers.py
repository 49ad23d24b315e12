"""The answers a model was tuned on, from which the engine takes drafts.

One JSON file of token ids. A model without it (from an older version, or imported) answers the same, with fewer drafts.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from tunesmith.system.atomic_write import write_atomically

Answers: TypeAlias = Iterable[Sequence[int]]

ANSWERS_FILE = "answers.json"
MOST_TOKENS = 1 << 16  # about 0.4 MB of JSON, and a 20 MB n-gram index in memory


def write_answers(directory: Path, answers: Answers) -> None:
    """Writes the first answers, with at most `MOST_TOKENS` in all, durably."""
    kept: list[list[int]] = []
    left = MOST_TOKENS
    for answer in answers:
        left -= len(answer)
        if left < 0:
            break
        kept.append([*answer])
    write_atomically(directory / ANSWERS_FILE, json.dumps(kept, separators=(",", ":")).encode())


def read_answers(directory: Path) -> list[list[int]]:
    """The token ids of the answers; [] if there is no file."""
    path = directory / ANSWERS_FILE
    if not path.is_file():
        return []
    answers: list[list[int]] = json.loads(path.read_text("utf-8"))
    return answers
