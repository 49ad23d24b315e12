"""Reads the answers of guard models as verdicts.

Llama Guard's `unsafe\\nS1,S9`, Qwen3Guard's two lines, plain JSON.
"""

import re

import orjson

from tunesmith.jsonvalue import JsonValue
from tunesmith.moderation.moderator import CATEGORIES, CLEAN, Verdict

# Llama Guard 3 and 4, MLCommons hazards. S6, S7, S8 and S13 (advice, privacy, property, elections) have no category.
LLAMA_GUARD: dict[str, tuple[str, ...]] = {
    "S1": ("illicit/violent", "violence"),
    "S2": ("illicit",),
    "S3": ("sexual", "illicit"),
    "S4": ("sexual/minors", "sexual"),
    "S5": ("harassment",),
    "S6": (),
    "S7": (),
    "S8": (),
    "S9": ("illicit/violent",),
    "S10": ("hate",),
    "S11": ("self-harm",),
    "S12": ("sexual",),
    "S13": (),
    "S14": ("illicit",),
}
QWEN_GUARD: dict[str, tuple[str, ...]] = {
    "violent": ("violence", "illicit/violent"),
    "non-violent illegal acts": ("illicit",),
    "sexual content or sexual acts": ("sexual",),
    "suicide & self-harm": ("self-harm",),
    "unethical acts": ("harassment", "hate"),
    "pii": (),
    "personally identifiable information": (),
    "politically sensitive topics": (),
    "copyright violation": (),
    "jailbreak": (),
}
_LLAMA = re.compile(r"\s*(safe|unsafe)\b[\s:]*((?:S\d{1,2}[\s,]*)*)", re.IGNORECASE)
_QWEN = re.compile(r"Safety:\s*(Safe|Unsafe|Controversial)\b(?:.*?Categories:\s*([^\n]*))?", re.IGNORECASE | re.DOTALL)


def read_answer(answer: str) -> Verdict | None:
    """The verdict; None if the answer cannot be read.

    Scores are 1: these models give none.
    """
    text = answer.strip()
    if "</think>" in text:
        text = text.rpartition("</think>")[2].strip()
    if match := _LLAMA.match(text):
        return _llama(match[1], match[2])
    if match := _QWEN.search(text):
        names = [name.strip().lower() for name in (match[2] or "").split(",")]
        return (
            CLEAN if match[1].lower() == "safe" else _flag([one for name in names for one in QWEN_GUARD.get(name, ())])
        )
    return _json(text)


def _llama(word: str, codes: str) -> Verdict | None:
    if word.lower() == "safe":
        return CLEAN
    found = re.findall(r"S\d{1,2}", codes.upper())
    if not found or any(code not in LLAMA_GUARD for code in found):
        return None
    return _flag([name for code in found for name in LLAMA_GUARD[code]])


def _json(text: str) -> Verdict | None:
    start, end = text.find("{"), text.rfind("}")
    try:
        value: JsonValue = orjson.loads(text[start : end + 1])
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    categories = value.get("categories")
    if isinstance(categories, dict):
        categories = [name for name, holds in categories.items() if holds is True]
    if value.get("flagged") is False:
        return CLEAN
    if not isinstance(categories, list) or any(name not in CATEGORIES for name in categories):
        return None
    return _flag([str(name) for name in categories]) if categories or "flagged" not in value else None


def _flag(names: list[str]) -> Verdict:
    flagged = tuple(name for name in CATEGORIES if name in names)
    return Verdict(dict.fromkeys(flagged, 1.0), flagged)
