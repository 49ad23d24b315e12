"""The answers that a model was tuned on, beside its adapter: the engine drafts from them. They change no answer.

One JSON file of token ids. A model without it (of an older version, or imported) is served all the same.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from tunesmith.system.atomic_write import write_atomically

Answers: TypeAlias = Iterable[Sequence[int]]

ANSWERS_FILE = "answers.json"
MOST_TOKENS = 1 << 16  # about 0.4 MB of JSON, and 20 MB of look-up tables while the model is in memory


def write_answers(directory: Path, answers: Answers) -> None:
    """As many of them, from the first, as `MOST_TOKENS` allow."""
    kept: list[list[int]] = []
    left = MOST_TOKENS
    for answer in answers:
        left -= len(answer)
        if left < 0:
            break
        kept.append([*answer])
    write_atomically(directory / ANSWERS_FILE, json.dumps(kept, separators=(",", ":")).encode())


def read_answers(directory: Path) -> list[list[int]]:
    """[] where there are none."""
    path = directory / ANSWERS_FILE
    if not path.is_file():
        return []
    answers: list[list[int]] = json.loads(path.read_text("utf-8"))
    return answers
