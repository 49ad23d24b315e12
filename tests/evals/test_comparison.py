"""What two sides' answers say: criteria, the deciding one, verdicts and sentences."""

import random

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.evals.answers import Answer
from tunesmith.evals.comparison import compare, deciding_criterion, sentence, wording_note
from tunesmith.evals.criteria import (
    EXACT,
    ROUGE,
    SAME_CALLS,
    SAME_JSON,
    VALID_JSON,
    WORDS,
    Criterion,
    Reply,
    is_refusal,
    read_reply,
)
from tunesmith.evals.questions import Question
from tunesmith.evals.run import Asking

ORDER = '{"customer": "Ana", "quantity": 3}'


def question(line: int, reference: str) -> Question:
    return Question(line, ({"role": "user", "content": f"question {line}"},), {}, Reply(reference))


@pytest.mark.parametrize(
    ("criterion", "answer", "reference", "score"),
    [
        (EXACT, Reply(" Rome\n"), Reply("Rome"), 1.0),
        (EXACT, Reply("rome"), Reply("Rome"), 0.0),
        (EXACT, Reply("Rome"), Reply("", (("f", "{}"),)), None),
        (SAME_JSON, Reply('{"quantity":3,"customer":"Ana"}'), Reply(ORDER), 1.0),
        (SAME_JSON, Reply('{"quantity":4,"customer":"Ana"}'), Reply(ORDER), 0.0),
        (SAME_JSON, Reply("anything"), Reply("Rome"), None),
        (VALID_JSON, Reply('{"quantity":4}'), Reply(ORDER), 1.0),
        (VALID_JSON, Reply('{"quantity":'), Reply(ORDER), 0.0),
        (VALID_JSON, Reply("3"), Reply(ORDER), 0.0),
        (SAME_CALLS, Reply("", (("f", '{"a":1,"b":2}'),)), Reply("", (("f", '{"b": 2, "a": 1}'),)), 1.0),
        (SAME_CALLS, Reply("", (("f", '{"a":'),)), Reply("", (("f", '{"a": 1}'),)), 0.0),
        (SAME_CALLS, Reply("", (("g", ""), ("f", "{}"))), Reply("", (("f", ""), ("g", "{}"))), 1.0),
        (SAME_CALLS, Reply("f()"), Reply("", (("f", "{}"),)), 0.0),
        (WORDS, Reply("in Rome today"), Reply("Rome"), 0.5),
        (WORDS, Reply(""), Reply(""), 1.0),
        (ROUGE, Reply("a b c"), Reply("a c"), 0.8),
    ],
)
def test_a_criterion_judges(criterion: Criterion, answer: Reply, reference: Reply, score: float | None) -> None:
    assert criterion.judge(answer, reference) == (score if score is None else pytest.approx(score))


@pytest.mark.parametrize(
    ("references", "criterion"),
    [
        ([ORDER, ORDER, "no order"], SAME_JSON),
        (["positive", "negative", "neutral"], EXACT),
        (["A sentence of more than five words here."] * 3, ROUGE),
        ([ORDER, "positive"], EXACT),
    ],
)
def test_what_the_file_holds_chooses_the_deciding_criterion(references: list[str], criterion: Criterion) -> None:
    assert deciding_criterion([question(line, text) for line, text in enumerate(references)]) is criterion
    calls = Question(1, (), {}, Reply("", (("f", "{}"),)))
    assert deciding_criterion([calls, calls, question(2, "x")]) is SAME_CALLS


def sides(before: float, after: float, rows: int = 200) -> tuple[list[Question], list[Reply], list[Reply]]:
    """Labels, of which each side has so many right."""
    draw = random.Random(5)
    questions = [question(line, draw.choice(("yes", "no"))) for line in range(rows)]
    answers = [
        [Reply(one.reference.text if draw.random() < share else "perhaps") for one in questions]
        for share in (before, after)
    ]
    return questions, answers[0], answers[1]


@pytest.mark.parametrize(
    ("before", "after", "decision", "words"),
    [(0.5, 0.9, "better", "better"), (0.9, 0.6, "worse", "worse"), (0.7, 0.7, "not decisive", "not decisive, ")],
)
def test_a_gain_a_harm_and_no_effect_are_told_apart(before: float, after: float, decision: str, words: str) -> None:
    first = compare(*sides(before, after))[0]
    assert (first.criterion, first.decides, first.decision) == (EXACT, True, decision)
    assert words in sentence(first)
    assert first.table is not None
    assert first.table.both + first.table.gained + first.table.lost + first.table.neither == 200
    assert first.table.gained - first.table.lost == round(200 * first.difference.mean.value)


def test_the_sentence_is_plain() -> None:
    questions = [question(line, ORDER) for line in range(200)]
    before = [Reply(ORDER if line < 122 else "Ana wants 3") for line in range(200)]
    after = [Reply(ORDER if line < 196 else "Ana") for line in range(200)]
    assert sentence(compare(questions, before, after)[0]) == (
        "same JSON value 61 % -> 98 % on 200 rows (+37, 95 % interval +30 to +44): better"
    )


LONG = "The quiet keeper watches the grey sea all night"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            1,
            "on 1 row (+100, 95 % interval -100 to +100): too few rows to tell (1 row; at least 10)",
        ),
        (5, "on 5 rows (+100, 95 % interval +39 to +100): too few rows to tell (5 rows; at least 10)"),
        (6, "on 6 rows (+100, 95 % interval +45 to +100): better"),
        (24, "same text 0 % -> 100 % on 24 rows (+100, 95 % interval +80 to +100): better"),
    ],
)
def test_rows_that_all_gain_are_not_more_than_they_are(rows: int, said: str) -> None:
    questions = [question(line, "yes") for line in range(rows)]
    found = compare(questions, [Reply("no")] * rows, [Reply("yes")] * rows)[0]
    assert sentence(found).endswith(said)
    assert (found.decision == "better") == (rows >= 6)


def test_no_change_at_all_is_not_known_to_the_point() -> None:
    questions = [question(line, "yes") for line in range(24)]
    found = compare(questions, [Reply("yes")] * 24, [Reply("yes")] * 24)[0]
    assert sentence(found) == (
        "same text 100 % -> 100 % on 24 rows (+0, 95 % interval -14 to +14): not decisive, no difference to speak of"
    )


def test_few_conversations_are_too_few_however_many_rows_they_have() -> None:
    questions = [Question(number // 10, (), {}, Reply("yes")) for number in range(30)]
    found = compare(questions, [Reply("no")] * 30, [Reply("yes")] * 30)[0]
    assert (found.rows, found.conversations, found.decision) == (30, 3, "too few rows")
    assert sentence(found).endswith("too few rows to tell (rows of 3 conversations; at least 10)")


@pytest.mark.parametrize(
    ("before", "after", "decision", "words"),
    [
        ("I do not know", LONG, "closer", "closer to the wanted wording"),
        (LONG, "I do not know", "further", "further from the wanted wording"),
    ],
)
def test_a_likeness_is_called_a_likeness(before: str, after: str, decision: str, words: str) -> None:
    questions = [question(line, f"{LONG} {line}") for line in range(24)]
    found = compare(questions, [Reply(before)] * 24, [Reply(after)] * 24)
    assert (found[0].criterion, found[0].decision) == (ROUGE, decision)
    assert sentence(found[0]).endswith(f": {words}")
    assert wording_note(found) == "ROUGE-L compares the wording with the file's answers and does not check facts"
    words_in_common = next(one for one in found if one.criterion is WORDS)
    assert words_in_common.decision == decision
    labels = [question(line, "yes") for line in range(24)]
    assert wording_note(compare(labels, [Reply("no")] * 24, [Reply("yes")] * 24)) is None


def test_rows_of_one_conversation_count_as_one_draw() -> None:
    questions, before, after = sides(0.5, 0.7, 100)
    as_one = [Question(one.line // 20, one.messages, {}, one.reference) for one in questions]
    alone, together = compare(questions, before, after)[0], compare(as_one, before, after)[0]
    assert alone.decision == "better"
    assert together.p > alone.p
    assert together.before.high - together.before.low > 0


@pytest.mark.parametrize("text", ["I'm sorry, I can't help.", "As an AI, I", "“I cannot do that", "抱歉,我不能"])
def test_a_refusal_is_told_by_its_beginning(text: str) -> None:
    assert is_refusal(Reply(text))
    assert not is_refusal(Reply(f"She said: {text}"))


def test_a_reply_is_read_from_parts_and_from_old_function_calls() -> None:
    assert read_reply({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}) == Reply("ab")
    assert read_reply({"content": None, "function_call": {"name": "f", "arguments": "{}"}}).calls == (("f", "{}"),)


def answers(fingerprints: dict[str, str], texts: dict[str, str]) -> Asking:
    def ask(model: str, asked: Question) -> Answer | str:
        if asked.line == 3:
            return "too long"
        return Answer(Reply(texts[model]), model, fingerprints[model], 5, 2, 0.1)

    return Asking(ask, lambda _: None, 2)


def test_a_run_pairs_the_answers_and_leaves_out_what_cannot_be_asked() -> None:
    questions = [question(line, "yes") for line in range(1, 13)]
    found = answers({"b": "fp_1", "t": "fp_2"}, {"b": "no", "t": "yes"}).run(questions, "b", "t")
    assert (len(found.pairs), found.left_out) == (11, ((3, "too long"),))
    value = found.to_json()
    assert (value["verdict"], value["rows"]) == ("better", 11)
    assert isinstance(value["samples"], list)
    assert value["samples"][0] == {
        "line": 1,
        "messages": [{"role": "user", "content": "question 1"}],
        "reference": {"text": "yes", "tool_calls": []},
        "before": {
            "text": "no",
            "tool_calls": [],
            "model": "b",
            "fingerprint": "fp_1",
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "seconds": 0.1,
            "cut": False,
        },
        "after": {
            "text": "yes",
            "tool_calls": [],
            "model": "t",
            "fingerprint": "fp_2",
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "seconds": 0.1,
            "cut": False,
        },
    }


def test_tuned_weights_on_the_base_side_are_caught() -> None:
    same = answers({"b": "fp_2", "t": "fp_2"}, {"b": "no", "t": "yes"})
    with pytest.raises(InvalidRequest, match=r"b and t were answered by the same weights \(fp_2\)"):
        same.run([question(1, "yes")], "b", "t")
