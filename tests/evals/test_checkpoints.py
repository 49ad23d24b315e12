"""Checkpoints against the base: the best is named, and looking at many of them is corrected for."""

import random

import pytest
from tests.evals.test_evaluation import answer

from tunesmith.errors import InvalidRequest
from tunesmith.evals.answers import Answer
from tunesmith.evals.checkpoints import CheckpointComparison, compare_checkpoints
from tunesmith.evals.comparison import uncorrected
from tunesmith.evals.criteria import Reply
from tunesmith.evals.questions import Question
from tunesmith.evals.statistics import holm

ROWS = 60


def rows(count: int = ROWS) -> list[Question]:
    return [Question(line, ({"role": "user", "content": "?"},), {}, Reply("yes")) for line in range(1, count + 1)]


def side(right: int, name: str, count: int = ROWS, seed: int = 1) -> list[Answer]:
    """So many right answers, at places of their own."""
    places = set(random.Random(seed).sample(range(count), right))
    return [answer("yes" if place in places else "no", name) for place in range(count)]


def compared(*right: int, base: int = 20) -> CheckpointComparison:
    made = [(f"ft:step-{10 * number}", 10 * number) for number in range(1, len(right) + 1)]
    answers = [side(count, f"t{number}", seed=number) for number, count in enumerate(right)]
    return compare_checkpoints("base", made, rows(), side(base, "base", seed=99), answers)


def test_the_best_checkpoint_is_named_with_what_is_sure() -> None:
    found = compared(25, 58, 40)
    assert (found.best.model, found.best.step) == ("ft:step-20", 20)
    assert [one.step for one in found.checkpoints] == [10, 20, 30]
    best, lead = found.sentences
    assert best.startswith("Best of 3 checkpoints: ft:step-20 (step 20), same text 33 % -> 97 % on 60 rows (+63, ")
    assert best.endswith(": better")
    assert lead.startswith("Against the next best (step 30): same text 67 % -> 97 % on 60 rows")
    assert lead.endswith(": better")
    assert found.to_json()["best"] == "ft:step-20"


def test_each_p_is_corrected_for_all_criteria_of_all_checkpoints() -> None:
    found = compared(28, 31, 33)
    raw = {
        (one.model, two.criterion.name): two.p
        for number, one in enumerate(found.checkpoints)
        for two in uncorrected(
            rows(),
            [two.reply for two in side(20, "base", seed=99)],
            [two.reply for two in side((28, 31, 33)[number], "t", seed=number)],
        )
    }
    assert len(raw) == 3 * len(found.best.outcomes) > 9
    wanted = holm(raw)
    assert {(one.model, two.criterion.name): two.p for one in found.checkpoints for two in one.outcomes} == wanted
    assert raw["ft:step-30", "same text"] < 0.05 < wanted["ft:step-30", "same text"]  # which alone would be better
    assert found.sentences[0].partition(": not decisive, about ")[2].endswith(" rows needed")


def test_among_equals_the_earliest_is_the_best_and_its_lead_not_decisive() -> None:
    found = compared(30, 50, 50)
    assert (found.best.step, found.runner_up and found.runner_up.step) == (20, 30)
    assert found.sentences[1].endswith(": not decisive, no difference to speak of")


def test_a_single_checkpoint_has_no_rival() -> None:
    found = compared(50)
    assert (found.runner_up, found.lead) == (None, None)
    assert [one.partition(":")[0] for one in found.sentences] == ["The only checkpoint"]


def test_the_bases_own_weights_are_no_checkpoint() -> None:
    with pytest.raises(InvalidRequest, match="there is nothing to compare"):
        compare_checkpoints("base", [("ft:a", 1)], rows(), side(20, "base"), [side(30, "base")])


def test_a_checkpoint_that_is_closer_in_its_wording_is_not_called_better() -> None:
    text = "The quiet keeper watches the grey sea all night"
    questions = [Question(line, (), {}, Reply(f"{text} {line}")) for line in range(ROWS)]
    base, tuned = [[answer(said, name) for _ in questions] for said, name in (("no", "base"), (text, "t"))]
    found = compare_checkpoints("base", [("ft:a", 1)], questions, base, [tuned])
    best, note = found.sentences
    assert best.endswith(": closer to the wanted wording")
    assert note == "ROUGE-L compares the wording with the file's answers and does not check facts."
