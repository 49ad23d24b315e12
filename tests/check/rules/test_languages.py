"""The glance at a file's languages."""

import json
from pathlib import Path

import pytest

from tunesmith.check.file_check import check_file
from tunesmith.check.rules.languages import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The row is read and what it says is shown to you.", "English"),
        ("Die Prüfung ist nicht das Modell, und das ist mit Absicht so.", "German"),
        ("Le modèle est dans une boîte et vous ne pas le voir.", "French"),
        ("Los datos son para el modelo y no para ti.", "Spanish"),
        ("今天北京的天气晴朗", "Chinese"),
        ("データが正しければ学習は進みます", "Japanese"),
        ("Завтра ожидается дождь", "Russian or other Cyrillic"),
        ("12 + 30 = 42", "none"),
        ("print(x)", "unknown"),
        ("ya mismo mañana temprano", "other"),
        ("u1", "unknown"),
        ("y1", "unknown"),
        ("y2 x3", "unknown"),
        ("Die Katze", "German"),
        ("是", "Chinese"),
    ],
)
def test_a_language_is_known_by_its_script_or_its_small_words(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_row_whose_answer_is_a_label_is_judged_by_its_question(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    asked = {"role": "user", "content": "What is the mood of this review: it was all that I hoped for?"}
    row = {
        "messages": [{"role": "system", "content": "你是助理。" * 20}, asked, {"role": "assistant", "content": "good"}]
    }
    path.write_text((json.dumps(row) + "\n") * 10)
    assert check_file(path).sections["languages"] == {
        "rows_sampled": 10,
        "rows_too_short": 0,
        "shares": {"English": 1.0},
    }


ENGLISH = "The weather is fine and you can go for a walk in the park."


@pytest.mark.parametrize(
    ("answer", "language"),
    [
        (json.dumps({"summary": ENGLISH, "id": 7}), "English"),
        (json.dumps([{"text": "今天北京的天气晴朗", "label": "good"}] * 3, ensure_ascii=False), "Chinese"),
        (json.dumps({"label": "positive", "score": 0.9, "of": ["price", "service", "delivery"], "x": [1] * 9}), "JSON"),
        ("```json\n" + json.dumps({"summary": ENGLISH}) + "\n```", "English"),
        ("```python\nfor the in that: print(with_this, and_it, you, are, as, by, or_an)\n```", "code"),
        ("def add(left, right):\n    return left + right\n\n\nprint(add(1, 2), add(3, 4), add(5, 6))", "code"),
        ("SELECT name, of_the_year FROM towns WHERE is_in IN (1, 2, 3) AND that_one IS NOT NULL", "code"),
        ("<html><body><p>x</p></body></html>" * 3, "code"),
        ("{not json} " + ENGLISH, "English"),
        ("<think>It is about the weather, and that is easy.</think>" + ENGLISH, "English"),
        ("<think>It is about the weather.</think>" + "```python\nprint(1, 2, 3, 4, 5, 6, 7, 8, 9)\n```", "English"),
        ("<think>\n\n</think>\n\n<answer>Das ist nicht der Park, und die Sonne ist auf den Bergen.</answer>", "German"),
        ("<p>Das ist nicht der Park,</p>\n<p>und die Sonne ist auf den Bergen bei der Stadt.</p>", "German"),
    ],
    ids=[
        "values",
        "list",
        "labels",
        "fenced-json",
        "fenced",
        "python",
        "sql",
        "html",
        "braces",
        "think",
        "think-code",
        "tags",
        "markup",
    ],
)
def test_answers_in_json_and_code_are_judged_by_their_prose_or_named(
    tmp_path: Path, answer: str, language: str
) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"messages": [{"role": "user", "content": "Und das?"}, {"role": "assistant", "content": answer}]}
    path.write_text((json.dumps(row) + "\n") * 10)
    assert check_file(path).sections["languages"] == {
        "rows_sampled": 10,
        "rows_too_short": 0,
        "shares": {language: 1.0},
    }


def test_rows_too_short_to_tell_are_counted_apart(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    short = [{"role": "user", "content": "u1"}, {"role": "assistant", "content": "y1"}]
    told = [{"role": "user", "content": ENGLISH}, {"role": "assistant", "content": "y1"}]
    rows = [{"messages": short}] * 8 + [{"messages": told}] * 2
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = check_file(path).sections["languages"]
    assert found == {"rows_sampled": 10, "rows_too_short": 8, "shares": {"English": 1.0}}
    path.write_text((json.dumps({"messages": short}) + "\n") * 10)
    assert check_file(path).sections["languages"] == {"rows_sampled": 10, "rows_too_short": 10, "shares": {}}
