"""What a verdict says is the same wherever it is shown: event, job, file, eval, card, terminal and page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from tests.evals.test_evaluation import answer
from tests.export.test_cards import RECORD

from tunesmith.cli.output.evaluation import evaluation_html, print_evaluation
from tunesmith.evals.answers import Pair
from tunesmith.evals.criteria import Reply
from tunesmith.evals.evaluation import Evaluation, evaluate
from tunesmith.evals.questions import Question
from tunesmith.evals.verdict.as_eval import OfJob, as_eval
from tunesmith.export.cards.model_card import model_card
from tunesmith.jsonvalue import JsonObject
from tunesmith.web.views.evaluations.verdict import read_verdict
from tunesmith.worker.evaluation import _events, _shown

WANTED = "Ahoy, the lamp burns bright over the black water tonight"
NOTE = "ROUGE-L compares the wording with the file's answers and does not check facts"
CLOSER = "closer to the wanted wording"
TOO_FEW = "too few rows to tell (1 row; at least 10)"


def toned(rows: int) -> Evaluation:
    """Answers in the wanted tone, whose facts nobody has checked."""
    made = []
    for line in range(1, rows + 1):
        question = Question(line, ({"role": "user", "content": "Is the lamp on?"},), {}, Reply(f"{WANTED} {line}"))
        made.append(Pair(question, answer("It is off.", "base"), answer(f"{WANTED} 0", "tuned")))
    return evaluate("base", "tuned", made, base="none")


@pytest.mark.parametrize(("rows", "words"), [(24, CLOSER), (1, TOO_FEW)])
def test_event_job_and_eval_say_what_the_file_says(rows: int, words: str) -> None:
    found = cast(JsonObject, json.loads(json.dumps(toned(rows).to_json())))
    sentences = cast("list[str]", found["sentences"])
    assert sentences[0].endswith(words)
    assert all("better" not in one and "1 rows" not in one for one in sentences)
    shown = _shown(found, "file-1")
    [event] = _events(found, shown)
    assert event.message == f"Verdict: {sentences[0]}; {NOTE}"
    assert (shown["sentence"], shown["verdict"]) == (sentences[0], found["verdict"])
    same = as_eval(found, OfJob("ftjob-1", "default", None))
    assert same is not None
    about = same.new.metadata
    assert (about["sentence"], about["verdict"], about["notes"]) == (sentences[0], found["verdict"], NOTE)
    page = read_verdict(json.dumps(found).encode())
    assert (page.sentences[0], page.notes, page.verdict) == (sentences[0], (NOTE,), found["verdict"])


@pytest.mark.parametrize(("rows", "words"), [(24, CLOSER), (1, TOO_FEW)])
def test_card_terminal_and_page_say_what_the_file_says(
    rows: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = toned(rows)
    card = model_card(RECORD, found.to_json()).replace("&gt;", ">")
    print_evaluation(found, as_json=False)
    printed = " ".join(capsys.readouterr().out.split())
    html = evaluation_html(found).replace("&#39;", "'").replace("&gt;", ">")
    for text in (card, printed, html):
        assert found.sentences[0] in text
        assert NOTE in text
        assert "1 rows" not in text
        assert "1 answers" not in text
        assert "is better" not in text
    assert (
        f"{words.partition(' (')[0] if rows > 1 else 'too few rows'}, on {'24 rows' if rows > 1 else '1 row'}; " in card
    )
    headline = (
        "tuned is closer to the wanted wording than base" if rows > 1 else "Too few rows to tell: tuned against base"
    )
    assert printed.startswith(headline)
    assert f"<h1>{headline}</h1>" in html


def test_a_note_of_how_rows_were_chosen_stands_beside_it() -> None:
    found = toned(24)
    whole = replace(found, notes=(*found.notes, "24 of 60 rows")).to_json()
    assert whole["notes"] == [NOTE, "24 of 60 rows"]
    same = as_eval(whole, OfJob("ftjob-1", "default", None))
    assert same is not None
    assert same.new.metadata["notes"] == f"{NOTE}; 24 of 60 rows"
