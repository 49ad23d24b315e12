"""Rows to measure the trainer with, made from a seed: the kinds of `bench/train.py` for a clone without data."""

import json
import random
from pathlib import Path

VOCABULARY = """
order parcel refund invoice account password delivery address card payment store branch ticket upgrade price stock size
colour return label courier morning evening today tomorrow please thanks could would should check update wait confirm
cancel change open close send receive find lose break repair replace explain describe list compare write
"""
WORDS = VOCABULARY.split()


def write_rows(folder: Path, seed: int = 0, rows: int = 64) -> None:
    """Short turns under one long system prompt (`shared-prompt.jsonl`); turns of all sizes (`instructions.jsonl`)."""
    draw = random.Random(seed)
    prompt = "You are the help desk of a shop. " + _text(draw, 330)
    shared = [_chat(prompt, _text(draw, draw.randint(8, 25)), _text(draw, draw.randint(15, 60))) for _ in range(rows)]
    plain = [
        _chat(
            "You are a helpful assistant.",
            _text(draw, draw.randint(8, 60)),
            _text(draw, int(draw.lognormvariate(4, 0.7))),
        )
        for _ in range(rows)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("shared-prompt", shared), ("instructions", plain)):
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(max(1, words))).capitalize() + "."


def _chat(system: str, question: str, answer: str) -> str:
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return json.dumps({"messages": messages})
