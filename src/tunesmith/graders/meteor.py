"""METEOR (Banerjee and Lavie 2005), a score of how alike two texts are.

Words match as they are, by their stem, and as synonyms of WordNet. nltk does the matching, over its wordpunct words in
lower case; WordNet is Debian's package `wordnet-base`. Where one of
the two is missing the metric is refused with what `missing` says.

Not covered: paraphrase tables, and languages other than English.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.graders.similarity import WORDPUNCT
from tunesmith.graders.wordnet import open_wordnet

WORDNET = Path("/usr/share/wordnet")
MAX_WORDS = 1_000  # of a text: the matching is quadratic


def missing() -> str | None:
    """What METEOR needs that is not here, and how to get it; None where it can be had."""
    if find_spec("nltk") is None:
        return "it needs nltk: `pip install nltk` where Tunesmith is installed, and a new start"
    if not (WORDNET / "data.noun").is_file():
        return f"it needs WordNet in {WORDNET}: `apt install wordnet-base` on Debian and Ubuntu"
    return None


def meteor(text: str, reference: str) -> float:
    """METEOR, 0 to 1, with alpha 0.9, beta 3 and gamma 0.5.

    0 where a text has no words; InvalidRequest where one has more than `MAX_WORDS`.
    """
    from nltk.translate.meteor_score import single_meteor_score

    words, wanted = WORDPUNCT.findall(text), WORDPUNCT.findall(reference)
    if max(len(words), len(wanted)) > MAX_WORDS:
        raise InvalidRequest(f"METEOR compares texts of at most {MAX_WORDS:,} words.", param="evaluation_metric")
    if not words or not wanted:
        return 0.0
    return float(single_meteor_score(wanted, words, wordnet=_Synsets()))


@dataclass(frozen=True, slots=True)
class _Lemma:
    word: str

    def name(self) -> str:
        return self.word


@dataclass(frozen=True, slots=True)
class _Synset:
    words: frozenset[str]

    def lemmas(self) -> list[_Lemma]:
        return [_Lemma(word) for word in self.words]


class _Synsets:
    """WordNet as nltk asks it: all synsets of a word, here as one."""

    def synsets(self, word: str) -> list[_Synset]:
        return [_Synset(open_wordnet(WORDNET).synonyms(word))]
