"""The languages of a file, roughly.

They are told by the script, and by the commonest words of a few Latin-script languages.

Coarse on purpose: it samples rows, and is good enough to tell that half of a file is in another language than intended.
"""

import re
from collections import Counter
from collections.abc import Sequence

from tunesmith.check.scan.batch import Batch, BatchRow
from tunesmith.check.scan.result import ChunkResult, Partial
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Finding

SAMPLED_PER_CHUNK = 32
ENOUGH_CHARS = 60
TEXT_CHARS = 400

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
            counts[language_of(_spoken(row))] += 1
        return Partial(dict(counts))

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        """The share of each language in the sampled rows."""
        counts: Counter[str] = Counter()
        for partial in partials:
            counts.update({language: int(str(rows)) for language, rows in partial.data.items()})
        sampled = sum(counts.values())
        shares: JsonObject = {language: round(rows / sampled, 3) for language, rows in counts.most_common()}
        return [], {"rows_sampled": sampled, "shares": shares}


def _spoken(row: BatchRow) -> str:
    """The row's answers; where they are a word or two, as labels are, the prompt too."""
    answers = " ".join(
        [text[:TEXT_CHARS] for text, learned in zip(row.texts, row.about.learned, strict=True) if learned]
    )
    if len(answers) >= ENOUGH_CHARS:
        return answers[:TEXT_CHARS]
    texts = [text[:TEXT_CHARS] for at, text in enumerate(row.texts) if at != row.about.system_at]
    return " ".join(reversed(texts))[:TEXT_CHARS]


def language_of(text: str) -> str:
    """The language of most of the letters: a script's, or that of the commonest words."""
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
    return best if scores[best] else "other"
