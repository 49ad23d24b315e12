"""Whole evaluations: cases that must be told apart, proofs of the base, losses, and what is kept on the way."""

import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.evals.answers import Answer, Pair
from tunesmith.evals.criteria import ANSWERED, SHAPE, Reply
from tunesmith.evals.evaluation import Evaluation, evaluate
from tunesmith.evals.measures import loss, loss_sentence
from tunesmith.evals.questions import Question, in_random_order
from tunesmith.evals.verdict.held_out import Split, held_out_count, split_file
from tunesmith.evals.verdict.journal import Journal

TUNED = "ab" * 32


def answer(text: str, side: str, loss: float | None = None) -> Answer:
    adapter = "none" if side == "base" else TUNED
    return Answer(Reply(text), side, f"fp_{side}", 5, 2, 0.1, adapter=adapter, loss=loss, loss_tokens=4)


def pairs(before: float, after: float, rows: int = 200, seed: int = 11) -> list[Pair]:
    """Labels, of which each side has so many right; a right answer costs less loss."""
    draw = random.Random(seed)
    made = []
    for line in range(1, rows + 1):
        wanted = draw.choice(("yes", "no"))
        question = Question(line, ({"role": "user", "content": "?"},), {}, Reply(wanted))
        first, second = (draw.random() < share for share in (before, after))
        sides = zip((first, second), ("base", "tuned"), strict=True)
        made.append(Pair(question, *(answer(wanted if hit else "x", side, 1.0 if hit else 8.0) for hit, side in sides)))
    return made


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [(0.3, 0.9, "better"), (0.6, 0.6, "not decisive"), (0.8, 0.4, "worse")],
    ids=["good", "without effect", "harmful"],
)
def test_three_cases_are_told_apart(before: float, after: float, verdict: str) -> None:
    found = evaluate("b", "t", pairs(before, after), base="none")
    assert found.verdict == verdict
    assert found.loss is not None
    said = {"better": ": the wanted answers are likelier", "worse": ": the wanted answers are less likely"}
    assert loss_sentence(found.loss).endswith(said.get(verdict, ": not decisive"))
    assert found.sentences[0].startswith("same text ")
    assert found.to_json()["verdict"] == verdict


def test_weights_that_are_not_the_bases_are_caught_on_its_side() -> None:
    swapped = [
        replace(one, before=replace(one.before, adapter="cd" * 32)) if one.question.line == 7 else one
        for one in pairs(0.3, 0.9, 20)
    ]
    with pytest.raises(InvalidRequest, match="to be answered by the base alone, but tuned weights did it: cdcdcdcdcd"):
        evaluate("b", "t", swapped, base="none")
    unknown = [replace(one, before=replace(one.before, adapter=None)) for one in pairs(0.3, 0.9, 20)]
    with pytest.raises(InvalidRequest, match="unknown weights"):
        evaluate("b", "t", unknown, base="none")


def test_the_loss_is_for_each_token_and_told_with_the_perplexity() -> None:
    questions = [Question(line, (), {}, Reply("x")) for line in (1, 2)]
    made = [
        Pair(
            questions[0],
            replace(answer("x", "base", 8.0), loss_tokens=2),
            replace(answer("x", "t", 2.0), loss_tokens=2),
        ),
        Pair(
            questions[1],
            replace(answer("x", "base", 4.0), loss_tokens=4),
            replace(answer("x", "t", 4.0), loss_tokens=4),
        ),
    ]
    found = loss(made)
    assert found is not None
    assert (found.size, found.before, found.after) == (6, 2.0, 1.0)
    assert loss_sentence(found).startswith("loss 2.00 -> 1.00 on 6 tokens (-1.00, 95 % interval ")
    assert loss_sentence(found).endswith("perplexity 7.39 -> 2.72: too few rows to tell (2 rows; at least 10)")
    assert " on 1 token (" in loss_sentence(replace(found, size=1))
    unknown = [replace(one, before=replace(one.before, loss=None)) for one in made]
    assert loss(unknown) is loss(made[:1]) is None


@pytest.mark.parametrize(
    ("made", "wanted", "score"),
    [
        ('{"a": 1, "b": ["x"]}', '{"b": ["y", "z"], "a": 2.5}', 1.0),
        ('{"a": "1", "b": []}', '{"a": 1, "b": []}', 0.0),
        ('{"a": 1}', '{"a": 1, "b": 2}', 0.0),
        ('{"a": true}', '{"a": 1}', 0.0),
        ('{"a": {"c": null}}', '{"a": {"c": null}}', 1.0),
        ("no", '{"a": 1}', 0.0),
        ("no", "yes", None),
    ],
)
def test_the_shape_of_json_is_its_keys_and_types(made: str, wanted: str, score: float | None) -> None:
    assert SHAPE.judge(Reply(made), Reply(wanted)) == score


def test_a_refusal_counts_only_where_the_file_has_none() -> None:
    refusal = Reply("I'm sorry, I can't help with that.")
    assert [ANSWERED.judge(refusal, Reply("Rome")), ANSWERED.judge(Reply("Rome"), Reply("Rome"))] == [0.0, 1.0]
    assert ANSWERED.judge(refusal, refusal) is None


def test_any_first_part_of_the_order_is_whole_conversations() -> None:
    questions = [Question(line, (), {}, Reply(str(turn))) for line in range(1, 31) for turn in range(2)]
    order = in_random_order(questions)
    assert order != questions
    assert [one.line for one in order[::2]] == [one.line for one in order[1::2]]
    assert sorted(one.line for one in order) == [one.line for one in questions]


def test_a_journal_goes_on_where_a_kill_ended_it(tmp_path: Path) -> None:
    path, both = tmp_path / "answers.jsonl", (answer("a", "base", 1.5), replace(answer("b", "tuned"), loss_tokens=0))
    with closing(Journal(path, "key")) as journal:
        journal.add("rows", 3, both)
        journal.add("general", 0, "too long")
    with path.open("ab") as file:
        file.write(b'{"part": "rows", "ques')
    with closing(Journal(path, "key")) as again:
        assert again.found == {("rows", 3): both, ("general", 0): "too long"}
        again.add("rows", 4, both)
    with path.open("ab") as file:
        file.write(b"\0\0\0\n")
    with closing(Journal(path, "key")) as after_a_power_cut:
        assert set(after_a_power_cut.found) == {("rows", 3), ("general", 0), ("rows", 4)}
    assert path.read_bytes().count(b"\n") == 4
    with closing(Journal(path, "another")) as other:
        assert other.found == {}
    assert path.read_bytes() == b'{"key":"another"}\n'


@pytest.mark.parametrize(
    ("rows", "share", "count"),
    [
        (40, 0.25, 10),
        (100, True, 25),
        (200, True, 30),
        (1000, True, 100),
        (99_999, True, 500),
        (12, True, 3),
        (3, 0.1, 1),
    ],
)
def test_how_many_rows_are_held_out(rows: int, share: float | bool, count: int) -> None:
    assert held_out_count(rows, share) == count


def test_equal_rows_are_all_in_one_part_and_the_parts_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"row {number // 4}\n\n" for number in range(40)))
    parts = Split(tmp_path / "job" / "trained", tmp_path / "job" / "held")
    split = split_file(path, parts, 0.3, seed=1)
    held, rest = (one.read_text().split("\n") for one in (split.held_out, split.training))
    assert (len(held), len(rest)) == (13, 29)
    assert set(held) & set(rest) == {""}
    path.unlink()
    assert split_file(path, parts, 0.3, seed=1) == split


def test_an_evaluation_of_nothing_says_so() -> None:
    found: Evaluation = evaluate("b", "t", [])
    assert (found.verdict, found.loss, found.sentences) == (None, None, [])
