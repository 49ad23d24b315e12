"""The offline moderator: the word rules of `safetype`.

It is MIT-licensed, without dependencies, and has its rules inside the package.

Seven packs: English, Spanish, French, German, Portuguese, Hindi in both scripts. They hold insults, threats, slurs,
calls for violence against groups, urging to suicide, and (English and Hindi only) sexual content and solicitation.
`safetype` lowers a match's confidence when it is quoted or spoken about, as in 'the word "..."'.

What is not covered, and so never found: `illicit`, `violence`, the speaker's own `self-harm`, `sexual/minors`; other
languages; anything said without the words, irony included. Plain swearing is not reported: it is none of the
categories.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from threading import Lock

from safetype import create_moderation_engine
from safetype.types import ModerationMatch

from tunesmith.moderation.moderator import CLEAN, Coverage, Verdict
from tunesmith.system.deadline import check_time

LANGUAGES = ("en", "es", "fr", "de", "pt", "hi", "hi-latn")
FLAGGED_FROM = 0.5  # a quoted threat has 0.35, the bare word "sex" 0.35, a direct insult 0.8
PIECE = 20_000  # characters, which the library reads in a second where every word matters
OVERLAP = 500
KNOWN_WORDS = 200_000  # about 30 MB; beyond it the cache starts anew

# The library's categories and labels -> ours. A label adds to what its category says.
_OF_CATEGORY = {"hate": "hate", "harassment": "harassment", "sexual": "sexual"}
_OF_LABEL = {
    "threat": ("harassment/threatening",),
    "dehumanizing": ("hate/threatening",),
    "self-harm-incitement": ("self-harm/instructions",),
}
_SPACED = re.compile(r"(?<!\S)\S \S \S(?!\S)")
_FOREIGN = re.compile(r"[^\W\d_\u0000-\u024f\u0300-\u036f\u0900-\u097f\u1e00-\u1eff]")
_LETTERS = re.compile(r"[^\W\d_]")
_SAMPLE = 400  # characters looked at to tell the script


class WordModerator:
    """Moderates by word rules; see the module for what it covers."""

    def __init__(self) -> None:
        self._engine = create_moderation_engine(mode="block", languages=LANGUAGES, categories=tuple(_OF_CATEGORY))
        self._filter = _Filter([rule for rule in self._engine.get_rules() if rule["category"] in _OF_CATEGORY])
        self.name = f"safetype-{version('safetype')}"
        self.coverage = Coverage(
            (
                "harassment",
                "harassment/threatening",
                "hate",
                "hate/threatening",
                "self-harm/instructions",
                "sexual",
            ),
            "word rules for English, Spanish, French, German, Portuguese and Hindi; sexual content in English and "
            "Hindi only; self-harm only as urging others to it",
        )

    def moderate(self, texts: Sequence[str]) -> list[Verdict | None]:
        """A verdict for each text, None where its script is not covered."""
        return [self._moderate(text) for text in texts]

    def _moderate(self, text: str) -> Verdict | None:
        if self._filter.may_match(text):
            matches = [match for piece in _pieces(text) for match in self._engine.moderate(piece).matches]
            if matches:
                return _verdict(matches)
        return CLEAN if text.isascii() or _readable(text) else None


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of at most `PIECE` characters, between which the time limit is looked at.

    They overlap, so that no rule misses words that stand together.
    """
    start = 0
    while len(text) - start > PIECE:
        check_time()
        end = text.rfind(" ", start + PIECE - OVERLAP, start + PIECE)
        end = start + PIECE if end < 0 else end
        yield text[start:end]
        begin = text.find(" ", end - OVERLAP, end)
        start = end - OVERLAP if begin < 0 else begin
    check_time()
    yield text[start:]


def _verdict(matches: Sequence[ModerationMatch]) -> Verdict:
    scores: dict[str, float] = {}
    for match in matches:
        score = match.confidence * (0.5 if match.severity == "low" else 1.0)
        for name in (_OF_CATEGORY[match.category], *_OF_LABEL.get(match.label or "", ())):
            scores[name] = max(scores.get(name, 0.0), round(score, 4))
    return Verdict(scores, tuple(name for name, score in scores.items() if score >= FLAGGED_FROM))


def _readable(text: str) -> bool:
    """Whether most letters are of a script that the rules are written in: Latin or Devanagari."""
    sample = text[:_SAMPLE]
    letters = len(_LETTERS.findall(sample))
    return 2 * len(_FOREIGN.findall(sample)) <= letters


class _Filter:
    """Tells quickly that no rule can match: each needs a word for every one of its parts.

    The library reads a megabyte in more than a second. Here each different word is put to it once; a text is then a
    set of words, and most texts lack a part of every rule.
    """

    def __init__(self, rules: Sequence[dict[str, str]]) -> None:
        parts: list[dict[str, str]] = []
        self._needs: list[int] = []
        for rule in rules:
            need = 0
            for element in rule["pattern"].split():
                if not element.endswith("?"):
                    need |= 1 << len(parts)
                    parts.append({"id": str(len(parts)), "pattern": element, "category": "custom"})
            self._needs.append(need)
        self._engine = create_moderation_engine(mode="block", packs=[{"rules": parts}])
        self._known: set[str] = set()
        self._masks: dict[str, int] = {}
        self._telling: set[str] = set()  # the words that fit any part, those of `_masks`
        self._single: set[str] = set()
        self._lock = Lock()
        self._suffices = lru_cache(10_000)(self._any_need_met)

    def may_match(self, text: str) -> bool:
        words = set(text.split())
        if any(len(word) > PIECE for word in words):  # none of these is learned
            return True
        if not words <= self._known:
            self._learn(self._masks_of(words - self._known))
        found = 0
        for word in words & self._telling:
            found |= self._masks[word]
        spaced = len(words & self._single) > 2
        if found and self._suffices(found):
            return True
        # Letters spaced out, as in "k y s", are joined by the library; every such rule has three different ones.
        return spaced and _SPACED.search(text) is not None

    def _any_need_met(self, found: int) -> bool:
        return any(found & need == need for need in self._needs)

    def _masks_of(self, words: set[str]) -> dict[str, int]:
        """The parts that each word fits. Not under the lock: for some texts it takes long."""
        masks = {}
        for word in words:
            check_time()
            mask = 0
            for match in self._engine.moderate(word).matches:
                mask |= 1 << int(match.rule_id)
            masks[word] = mask
        return masks

    def _learn(self, masks: dict[str, int]) -> None:
        """`_known` grows last and none is changed in place: whoever finds a word there finds its mask."""
        telling = {word: mask for word, mask in masks.items() if mask}
        single = {word for word in masks if len(word) == 1}
        with self._lock:
            if len(self._known) > KNOWN_WORDS:
                self._known = set()
            if telling:
                self._masks = self._masks | telling
                self._telling = self._telling | telling.keys()
            self._single = self._single | single
            self._known |= masks.keys()
