"""The languages of a file, roughly.

They are told by the script, and by the commonest words of a few Latin-script languages.

Coarse on purpose: it samples rows, and is good enough to tell that half of a file is in another language than intended.
An answer in JSON or markup is judged by its texts; JSON without any, and code, are named so. What has too few words to
tell is not counted.
"""

import re
from collections import Counter
from collections.abc import Sequence

import orjson

from tunesmith.check.scan.batch import Batch, BatchRow
from tunesmith.check.scan.result import ChunkResult, Partial
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.findings import Finding

SAMPLED_PER_CHUNK = 32
ENOUGH_CHARS = 60
TEXT_CHARS = 400
FEW_LETTERS = 16  # of a text without any small word; fewer tell no language that is written in Latin letters
TOO_SHORT = "unknown"
MOST_VALUES = 64  # of a JSON answer, which are read

_FENCE = re.compile(r"(?<!\s)\s*+```[^\n]*\n?")
_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
# A thought before an answer, and the tags around parts of one: neither is code.
_THOUGHT = re.compile(r"\s*<(think|thinking|thought|reasoning)>(.*?)(?:</\1>|\Z)", re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>")
_MARKUP = re.compile(r"\s*<(?:html|head|body|div|p|span|a|ul|ol|table|section)[\s>]")
# How code begins that stands without a fence: the languages and markup that models are asked for most.
_CODE = re.compile(
    r"\s*(?:<(?:\?|!|(?:html|head|body|div|p|span|a|ul|ol|table|svg|form|script|style|section)[\s>/])"
    r"|#!|#include|import \w|from \w+(?:\.\w+)* import|def \w+\(|class \w+[(:{]"
    r"|(?:const|let|var) \w+ ?=|function \w*\(|public (?:class|static)|package \w|using \w"
    r"|SELECT\s.+\sFROM\s|INSERT INTO|UPDATE \S+ SET|DELETE FROM|CREATE TABLE|WITH \w+ AS \()",
    re.DOTALL,
)

_SCRIPTS = {
    "Japanese": re.compile("[\u3040-\u30ff]"),
    "Korean": re.compile("[\uac00-\ud7af]"),
    "Chinese": re.compile("[\u4e00-\u9fff]"),
    "Russian or other Cyrillic": re.compile("[\u0400-\u04ff]"),
    "Arabic": re.compile("[\u0600-\u06ff]"),
    "Hebrew": re.compile("[\u0590-\u05ff]"),
    "Greek": re.compile("[\u0370-\u03ff]"),
    "Hindi or other Devanagari": re.compile("[\u0900-\u097f]"),
    "Thai": re.compile("[\u0e00-\u0e7f]"),
}
_WORDS = {
    "English": "the of and to in is that for it you with are this what how be was on as by or an can your",
    "German": "der die das und ist nicht ein eine ich mit f\u00fcr auf den von wie",
    "French": "le la les des est une et pour que dans vous pas du qui avec",
    "Spanish": "el la los las que es una y para con por del no c\u00f3mo se",
    "Portuguese": "o os uma que \u00e9 para com n\u00e3o por do da em voc\u00ea como mais",
    "Italian": "il la che di \u00e8 un una per non con sono gli del come della",
    "Dutch": "de het een en van is dat niet op voor met zijn ik je wat",
}
_WORD_SETS = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_LETTERS = re.compile(r"[^\W\d_]+")


class Languages:
    """The analyser `languages`."""

    def analyse(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        """The languages of a sample of the rows."""
        step = max(1, len(batch.rows) // SAMPLED_PER_CHUNK)
        counts: Counter[str] = Counter()
        for row in batch.rows[::step]:
            counts[_language(row)] += 1
        return Partial(dict(counts))

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        """The share of each language in the sampled rows."""
        counts: Counter[str] = Counter()
        for partial in partials:
            counts.update({language: int(str(rows)) for language, rows in partial.data.items()})
        sampled = sum(counts.values())
        short = counts.pop(TOO_SHORT, 0)
        shares: JsonObject = {language: rows / (sampled - short) for language, rows in counts.most_common()}
        return [], {"rows_sampled": sampled, "rows_too_short": short, "shares": shares}


def _language(row: BatchRow) -> str:
    """The language of the row's answers; where they are a word or two, as labels are, of the prompt too."""
    learned = [text for text, is_learned in zip(row.texts, row.about.learned, strict=True) if is_learned]
    forms = [_form(text) for text in learned]
    answers = " ".join([said[:TEXT_CHARS] for _, said in forms])
    if len(answers) >= ENOUGH_CHARS or (forms and all(name for name, _ in forms)):
        found = language_of(answers[:TEXT_CHARS])
        return next((name for name, _ in forms if name), found) if found in ("none", "other", TOO_SHORT) else found
    texts = [text[:TEXT_CHARS] for at, text in enumerate(row.texts) if at != row.about.system_at]
    return language_of(" ".join(reversed(texts))[:TEXT_CHARS])


def _form(text: str) -> tuple[str, str]:
    """What a text is if it is not prose ("JSON", "code" or ""), and the prose in it."""
    start = text[:1] if text[:1] in "{[`" else text.lstrip()[:1]
    if start == "<" and (thought := _THOUGHT.match(text)) is not None:
        name, said = _form(text[thought.end() :])
        return name, f"{said} {thought[2]}"
    if start in ("{", "[") and (values := _json_texts(text)) is not None:
        return "JSON", " ".join(values)
    if start == "`" and text.lstrip().startswith("```"):
        inner = _FENCE.sub("", text, count=1).strip().removesuffix("```")
        if inner[:1] in ("{", "[") and (values := _json_texts(inner)) is not None:
            return "JSON", " ".join(values)
        return "code", _BLOCK.sub(" ", text[: 10 * TEXT_CHARS])
    if start == "<" and _MARKUP.match(text):
        return "code", _TAG.sub(" ", text[: 10 * TEXT_CHARS])
    if _CODE.match(text[:TEXT_CHARS]):
        return "code", ""
    return "", _TAG.sub(" ", text[: 2 * TEXT_CHARS]) if "<" in text else text


def _json_texts(text: str) -> list[str] | None:
    """The texts of a JSON value that look like prose, keys apart; None where it is no JSON."""
    try:
        value: JsonValue = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    found: list[str] = []
    level: list[JsonValue] = [value]
    while level and len(found) < MOST_VALUES:
        one = level.pop(0)
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict | list):
            level += one.values() if isinstance(one, dict) else one
    return [said for said in found if " " in said or not said.isascii()]


def language_of(text: str) -> str:
    """The language of most of the letters: a script's, or that of the commonest words.

    "none" without letters, TOO_SHORT for a few of Latin ones, else "other".
    """
    letters = _LETTERS.findall(text.lower())
    total = sum(map(len, letters))
    if not total:
        return "none"
    for language, script in _SCRIPTS.items() if not text.isascii() else ():
        share = len(script.findall(text)) / total
        if share > (0.1 if language == "Japanese" else 0.3):
            return language
    said = set(letters)
    scores = {language: len(said & words) for language, words in _WORD_SETS.items()}
    best = max(scores, key=lambda language: scores[language])
    sure = any(len(word) > 1 for word in said & _WORD_SETS[best])  # "y" is Spanish, and a variable
    if scores[best] and (sure or total >= FEW_LETTERS):
        return best
    return TOO_SHORT if total < FEW_LETTERS else "other"
