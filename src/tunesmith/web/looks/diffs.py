"""A row before and after, with the parts that differ."""

import re
from difflib import SequenceMatcher
from typing import TypeAlias

from tunesmith.check.report.mask_preview import visible

Part: TypeAlias = tuple[bool, str]  # whether it differs, and its text
MOST_WORDS = 400  # compared word by word, beyond what both begin and end with; that takes milliseconds
AROUND = 60  # characters that are shown beside a part that differs
CHANGED = 600  # at most, of one
MOST_PARTS = 60
_WORD = re.compile(r"\w+|\s+|[^\w\s]")


def row_diff(before: str, after: str) -> tuple[list[Part], list[Part]]:
    """Both texts as parts, those that are alike shortened."""
    start = _alike(before, after)
    end = _alike(before[start:][::-1], after[start:][::-1])
    middles = before[start : len(before) - end], after[start : len(after) - end]
    old, new = _compared(*middles)
    head, tail = before[:start], before[len(before) - end :]
    return _shown([(False, head), *old, (False, tail)]), _shown([(False, head), *new, (False, tail)])


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    low, high = 0, most  # both begin with `low` characters alike, and not with `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle)
    return low


def _compared(old: str, new: str) -> tuple[list[Part], list[Part]]:
    a, b = _WORD.findall(old), _WORD.findall(new)
    if len(a) > MOST_WORDS or len(b) > MOST_WORDS or not a or not b:
        return [(True, old)], [(True, new)]
    left: list[Part] = []
    right: list[Part] = []
    for kind, a0, a1, b0, b1 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        left.append((kind != "equal", "".join(a[a0:a1])))
        right.append((kind != "equal", "".join(b[b0:b1])))
    return left, right


def _shown(parts: list[Part]) -> list[Part]:
    parts = [part for part in parts if part[1]]
    shown = []
    for at, (differs, text) in enumerate(parts[:MOST_PARTS]):
        if differs:
            cut = text if len(text) <= CHANGED else text[:CHANGED] + "…"
        else:
            cut = _shortened(text, first=at == 0, last=at == len(parts) - 1)
        shown.append((differs, visible(cut)))
    return [*shown, (False, "…")] if len(parts) > MOST_PARTS else shown


def _shortened(text: str, *, first: bool, last: bool) -> str:
    """An equal part: what stands beside its neighbours."""
    if len(text) <= 2 * AROUND + 20:
        return text
    head, tail = "" if first else text[:AROUND], "" if last else text[-AROUND:]
    return f"{head}…{tail}"
