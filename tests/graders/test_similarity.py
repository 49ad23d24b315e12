"""The metrics of `text_similarity` against the libraries that people compare with, to 1e-9."""

import random
import re

import pytest
import sacrebleu
from nltk.tokenize import wordpunct_tokenize
from nltk.translate.gleu_score import sentence_gleu
from rouge_score.rouge_scorer import RougeScorer

from tunesmith.errors import InvalidRequest
from tunesmith.graders import meteor, wordnet
from tunesmith.graders.similarity import METRICS

PIECES = re.split(
    " ",
    "It costs 3.50 now then 1,000 a-b don't snake_case call (Yes.) Really?! & &amp; &quot; <b> x/y 5-6 2020-01 ... --"
    " – “q” größe É naïve hello, world . , ; : _ __ - 3. .5 a.b U.S. 1.2.3 % $5 #tag @me <skipped> ß ſ K",
)
ROUGE = {f"rouge_{order}": f"rouge{order}" for order in (1, 2, 3, 4, 5)} | {"rouge_l": "rougeL"}


def pairs(count: int) -> list[tuple[str, str]]:
    """Texts of such pieces, some glued, over lines, empty, or nearly equal."""
    draw = random.Random(7)
    found = [("", ""), ("", "x"), ("Rome", ""), ("well-\nknown", "wellknown")]
    while len(found) < count:
        text = draw.choice((" ", " ", "\n", "")).join(draw.choice(PIECES) for _ in range(draw.randrange(12)))
        other = " ".join(draw.choice(PIECES) for _ in range(draw.randrange(12)))
        found.append((text, draw.choice((other, text.replace("a", "b", 1) + " " + other[:5]))))
    return found


def test_bleu_is_sacrebleus() -> None:
    for text, reference in pairs(1500):
        wanted = sacrebleu.sentence_bleu(text, [reference]).score / 100
        assert METRICS["bleu"](text, reference) == pytest.approx(wanted, abs=1e-9), (text, reference)


def test_gleu_is_nltks_over_wordpunct_words() -> None:
    for text, reference in pairs(1500):
        wanted = sentence_gleu([wordpunct_tokenize(reference)], wordpunct_tokenize(text))
        assert METRICS["gleu"](text, reference) == pytest.approx(wanted, abs=1e-9), (text, reference)


def test_rouge_is_rouge_scores() -> None:
    scorer = RougeScorer(list(ROUGE.values()))
    for text, reference in pairs(700):
        wanted = scorer.score(reference, text)
        for ours, theirs in ROUGE.items():
            assert METRICS[ours](text, reference) == pytest.approx(wanted[theirs].fmeasure, abs=1e-9), (text, reference)


@pytest.mark.parametrize(
    ("metric", "text", "reference", "score"),
    [
        ("bleu", "It costs 3.50 now", "It costs 3.50 then", 0.5946035575),
        ("gleu", "Really?! (Yes.) It is", "Really? (No.) It is", 0.3636363636),
        ("rouge_1", "call snake_case now", "call snake case now", 1.0),
        ("rouge_l", "погода хорошая", "погода плохая", 0.5),  # rouge-score reads no Cyrillic and would say 0
    ],
)
def test_a_known_value(metric: str, text: str, reference: str, score: float) -> None:
    assert METRICS[metric](text, reference) == pytest.approx(score, abs=1e-9)


needs_wordnet = pytest.mark.skipif(meteor.missing() is not None, reason=f"METEOR: {meteor.missing()}")


@needs_wordnet
def test_meteor_has_the_value_of_nltks_documents() -> None:
    text = "It is a guide to action which ensures that the military always obeys the commands of the party"
    reference = "It is a guide to action that ensures that the military will forever heed Party commands"
    assert meteor.meteor(text, reference) == pytest.approx(0.6944444444)
    assert meteor.meteor("", reference) == 0.0
    with pytest.raises(InvalidRequest, match="at most 1,000 words"):
        meteor.meteor("a " * 1001, "a")


@needs_wordnet
@pytest.mark.parametrize(
    ("word", "among"), [("cars", "automobile"), ("went", "travel"), ("bigger", "large"), ("mice", "mouse")]
)
def test_wordnet_knows_synonyms_of_inflected_words(word: str, among: str) -> None:
    assert among in wordnet.open_wordnet(meteor.WORDNET).synonyms(word)


@needs_wordnet
@pytest.mark.parametrize("word", ["", " ", "zzzq", "a b", "\n", "  "])
def test_wordnet_has_none_for_what_is_no_word(word: str) -> None:
    assert wordnet.open_wordnet(meteor.WORDNET).synonyms(word) == frozenset()
