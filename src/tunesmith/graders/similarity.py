"""How alike two texts are, 0 to 1, by the metrics of `text_similarity` graders.

Each metric is that of the library that people compare with: `fuzzy_match` is rapidfuzz's ratio, `bleu` sacrebleu's
sentence BLEU, `gleu` nltk's over wordpunct words, `rouge_*` rouge-score's F1; tests hold them to 1e-9. Where a library
knows no words at all (rouge-score reads ASCII only), words of other scripts count as well.

Not covered: `cosine`, which needs an embedding model (`serve.embeddings`); `meteor` is in `graders.meteor`.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from rapidfuzz import fuzz, process
from rapidfuzz.distance import LCSseq

MAX_ORDER = 4  # BLEU's and GLEU's n-grams
LONG = 10_000_000  # pairs of characters, or of words: some milliseconds

HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# rouge-score's words, runs of a-z and 0-9 (a letter with an accent ends one), and those of scripts it leaves out.
FOLDED_WORDS = re.compile(f"[a-z0-9]+|[{HAN}]|[^\\W_a-z0-9\u00aa-\u024f\u1e00-\u1eff{HAN}]+")
WORDPUNCT = re.compile(r"\w+|[^\w\s]+")
# The tokens of NIST's mteval-v13a, the usual ones of machine translation: each step puts blanks around some marks.
ENTITIES = (("<skipped>", ""), ("-\n", ""), ("\n", " "), ("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
MTEVAL_STEPS = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # not the point of 3.5
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)

NGrams = Counter[tuple[str, ...]]


def fuzzy_match(text: str, reference: str) -> float:
    """The share of characters that two texts have in common (rapidfuzz's `ratio`)."""
    if len(text) * len(reference) < LONG:
        return fuzz.ratio(text, reference) / 100
    return _beside_others(fuzz.ratio, text, reference) / 100


def bleu(text: str, reference: str) -> float:
    """Sentence BLEU (Papineni et al. 2002) as sacrebleu has it.

    The orders are 1 to 4; a text shorter than four words has fewer. An order without a match counts as half a match,
    the next such order as a quarter (Chen and Cherry 2014, 3).
    """
    words, wanted = _mteval_words(text), _mteval_words(reference)
    if not words or not wanted:
        return 0.0
    logs: list[float] = []
    smooth = 1.0
    for order in range(1, min(MAX_ORDER, len(words)) + 1):
        made = _ngrams(words, order)
        matches = float((made & _ngrams(wanted, order)).total())
        if order == 1 and not matches:
            return 0.0
        if not matches:
            smooth *= 2
            matches = 1 / smooth
        logs.append(math.log(matches / made.total()))
    brevity = min(0.0, 1 - len(wanted) / len(words))
    return math.exp(brevity + sum(logs) / len(logs))


def gleu(text: str, reference: str) -> float:
    """The smaller of precision and recall over all n-grams of 1 to 4 words.

    Wu et al. 2016; the words are those of nltk's `wordpunct_tokenize`.
    """
    words, wanted = WORDPUNCT.findall(text), WORDPUNCT.findall(reference)
    if not words or not wanted:
        return 0.0
    made, aims = NGrams(), NGrams()
    for order in range(1, MAX_ORDER + 1):
        made.update(_ngrams(words, order))
        aims.update(_ngrams(wanted, order))
    return (made & aims).total() / max(made.total(), aims.total())


def rouge_n(order: int, text: str, reference: str) -> float:
    """F1 of the common n-grams (Lin 2004).

    0 where a text is shorter than one n-gram.
    """
    made, wanted = (_ngrams(folded_words(one), order) for one in (text, reference))
    return _f1((made & wanted).total(), made.total(), wanted.total())


def rouge_l(text: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004)."""
    made, wanted = folded_words(text), folded_words(reference)
    if len(made) * len(wanted) < LONG:
        return _f1(int(LCSseq.similarity(made, wanted)), len(made), len(wanted))
    return _f1(round(_beside_others(LCSseq.similarity, made, wanted)), len(made), len(wanted))


METRICS: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    **{f"rouge_{order}": partial(rouge_n, order) for order in range(1, 6)},
    "rouge_l": rouge_l,
}


def _beside_others(scorer: Callable[..., float], one: Sequence[str], other: Sequence[str]) -> float:
    """The scorer's figure of two long texts, while other threads run."""
    (found,) = process.cpdist([one], [other], scorer=scorer, dtype=np.float64)
    return float(found)


def folded_words(text: str) -> list[str]:
    """The words of a text as ROUGE counts them, in lower case."""
    return FOLDED_WORDS.findall(text.lower())


def _mteval_words(text: str) -> list[str]:
    text = text.rstrip()
    for mark, meant in ENTITIES:
        text = text.replace(mark, meant)
    text = f" {text} "
    for pattern, spaced in MTEVAL_STEPS:
        text = pattern.sub(spaced, text)
    return text.split()


def _ngrams(words: list[str], order: int) -> NGrams:
    return NGrams(tuple(words[start : start + order]) for start in range(len(words) - order + 1))


def _f1(common: int, made: int, wanted: int) -> float:
    return 2 * common / (made + wanted) if common else 0.0
