"""The rows of the two example tasks are what their page says: written by the script, held out by template, no leak."""

import json
import re
import runpy
from pathlib import Path

import pytest

TASKS = Path(__file__).resolve().parents[2] / "examples" / "tasks"
KEYS = ["item", "quantity", "name", "city", "day", "gift"]


def conversations(name: str) -> list[list[str]]:
    """The system message, the question and the answer of each row."""
    rows = [json.loads(line)["messages"] for line in (TASKS / f"{name}.jsonl").read_text("utf-8").splitlines()]
    assert all([one["role"] for one in row] == ["system", "user", "assistant"] for row in rows)
    return [[one["content"] for one in row] for row in rows]


def test_the_orders_are_what_the_script_writes(tmp_path: Path) -> None:
    for name in ("orders.py", "orders-by-hand.txt"):
        (tmp_path / name).write_bytes((TASKS / name).read_bytes())
    runpy.run_path(str(tmp_path / "orders.py"), run_name="__main__")
    for name in ("orders-train.jsonl", "orders-validation.jsonl"):
        assert (tmp_path / name).read_bytes() == (TASKS / name).read_bytes()


def test_no_template_of_the_validation_is_trained_on() -> None:
    script = runpy.run_path(str(TASKS / "orders.py"))
    trained = [shape(one) for one in script["TRAINING"]]
    made = [one for _, question, _ in conversations("orders-validation") for one in trained if one.fullmatch(question)]
    assert made == []
    seen = [one for _, question, _ in conversations("orders-train") for one in trained if one.fullmatch(question)]
    assert len(seen) == 5 * len(trained)  # the shapes do recognise the rows that come from them


def shape(template: str) -> re.Pattern[str]:
    first, *rest = (re.escape(part) for part in re.split(r"\{\w+\}", template.removeprefix("*")))
    return re.compile(".+".join((first, *rest)), re.IGNORECASE)


@pytest.mark.parametrize("name", ["orders-train", "orders-validation"])
def test_everything_in_an_answer_stands_in_the_order(name: str) -> None:
    numbers = runpy.run_path(str(TASKS / "orders.py"))["NUMBERS"]
    for _, question, answer in conversations(name):
        value = json.loads(answer)
        assert list(value) == KEYS
        spelled = [word for word, number in numbers.items() if number == value["quantity"]]
        said = question.lower()
        assert any(re.search(rf"\b{word}\b", said) for word in [str(value["quantity"]), *spelled]), question
        assert all(value[key] in question or value[key] in said for key in ("item", "name", "city")), question
        assert value["day"] is None or value["day"] in question
        assert isinstance(value["gift"], bool)


@pytest.mark.parametrize(("task", "least"), [("orders", 100), ("keeper", 60)])
def test_the_held_out_questions_are_others(task: str, least: int) -> None:
    training, held_out = conversations(f"{task}-train"), conversations(f"{task}-validation")
    questions = [question for _, question, _ in training]
    assert len(questions) >= least
    assert len(held_out) >= 24
    assert not {question for _, question, _ in held_out} & set(questions)
    assert len({system for system, _, _ in training + held_out}) == 1
    assert (TASKS / f"{task}-prompt.txt").read_text("utf-8").strip()
