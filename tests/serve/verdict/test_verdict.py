"""The evaluating process on the real base: what answers, what is proven, and what a kill leaves."""

import json
import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.errors import ServerFault
from tunesmith.evals.questions import Question, read_questions
from tunesmith.evals.verdict.journal import Journal
from tunesmith.evals.verdict.spec import SideSpec, VerdictSpec
from tunesmith.models.adapters import read_manifest
from tunesmith.rows.messages import Message
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.serve.pool import Pool
from tunesmith.serve.verdict import __main__ as process
from tunesmith.serve.verdict import pace
from tunesmith.serve.verdict.asking import Side, answers, longest_answer

CITIES = ("Oslo", "Rome", "Lima", "Cairo", "Perth", "Quito")


@pytest.fixture
def spec(tmp_path: Path, base_dir: Path, adapter_dir: Path) -> VerdictSpec:
    rows = tmp_path / "rows.jsonl"
    asked = [{"role": "user", "content": "{}: a city? Answer yes or no."}, {"role": "assistant", "content": "yes"}]
    rows.write_text("".join(json.dumps({"messages": asked}).replace("{}", city) + "\n" for city in CITIES))
    return VerdictSpec(
        before=SideSpec("base", base_dir, None, "none"),
        after=SideSpec("tuned", base_dir, adapter_dir, read_manifest(adapter_dir).sha256),
        rows_file=rows,
        rows_sha256="0" * 64,
        training_file=rows,
        journal=tmp_path / "answers.jsonl",
        result=tmp_path / "evaluation.json",
        settings={"data_dir": str(tmp_path), "serve_weights": "float32"},
        seconds=0.0,
    )


def test_base_and_tuned_model_answer_the_same_rows(
    spec: VerdictSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(pace, "LEAST", 2)
    spec.write(tmp_path / "spec.json")
    assert VerdictSpec.read(tmp_path / "spec.json") == spec
    assert process.main([str(tmp_path / "spec.json")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["message"] == "Evaluating on 6 rows: base and tuned answer them"
    assert lines[-1]["type"] == "done"
    found = json.loads(spec.result.read_text())
    assert {one["before"]["adapter"] for one in found["samples"]} == {"none"}
    assert {one["after"]["adapter"] for one in found["samples"]} == {spec.after.digest}
    assert found["rows"] == 2
    assert found["notes"][0].startswith("2 of 6 rows of the validation file, drawn at random")
    assert found["notes"][1].startswith("the evaluation took 100 % of the job's time, as a few rows")
    assert found["leaks"]["exact"] == 6
    assert 0 < found["loss"]["before"] < found["loss"]["after"]  # the adapter is noise
    assert sum(kind["rows"] for kind in found["forgetting"]["kinds"]) == 2
    with closing(Journal(spec.journal, spec.key())) as journal:
        assert len(journal.found) == 4


def test_time_within_the_jobs_share_needs_no_note(spec: VerdictSpec) -> None:
    timed = replace(spec, seconds=15.0)  # 85 of training
    assert [timed.share(15.0), timed.share(85.0)] == pytest.approx([0.15, 0.5])
    assert process._late(timed, 15.0) == []
    [said] = process._late(timed, 15.1)
    assert said.startswith("the evaluation took 15.1 % of the job's time")
    [said] = process._late(timed, 20.0)
    assert said.startswith("the evaluation took 19 % of the job's time")


def test_what_the_journal_has_is_not_asked_again(spec: VerdictSpec, opened: LoadedModel) -> None:
    questions = read_questions(spec.rows_file)
    side = Side("base", opened, "none")
    with closing(Journal(spec.journal, spec.key())) as journal:
        asking = process.Asking((side, side), journal)
        asking.ask("rows", questions[:1], 4, until=math.inf)
        kept = spec.journal.read_bytes()
        asking.ask("rows", questions[:1], 4, until=math.inf)
        assert spec.journal.read_bytes() == kept
        asking.ask("rows", questions, 4, until=-math.inf)  # far too late
        assert list(journal.found) == [("rows", 0)]


def test_other_weights_than_the_specs_are_refused(spec: VerdictSpec, pool: Pool) -> None:
    tuned_as_base = replace(spec.before, adapter_dir=spec.after.adapter_dir)
    with pytest.raises(ServerFault, match=f"base was to answer with the weights none, but {spec.after.digest[:10]}"):
        Side.open(pool, tuned_as_base)


def test_a_process_that_cannot_go_on_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert process.main([str(tmp_path / "none.json")]) == 1
    assert json.loads(capsys.readouterr().out)["message"].startswith("The spec ")


def test_a_question_is_answered_greedily_by_both_sides_and_its_loss_is_the_models(
    spec: VerdictSpec, opened: LoadedModel, pool: Pool, reference: "Callable[..., object]"
) -> None:
    import torch

    question = read_questions(spec.rows_file)[0]
    sides = Side("base", opened, "none"), Side.open(pool, spec.after)
    found = answers(sides, question, 8)
    assert not isinstance(found, str)
    again = answers(sides, question, 8)
    assert not isinstance(again, str)
    assert [one.reply for one in found] == [one.reply for one in again]
    assert found[0].loss_tokens >= 2
    prompt = opened.renderer.prompt([Message("user", str(question.messages[0]["content"]))])
    ids = torch.tensor([[*prompt, *opened.renderer.encode("yes"), min(opened.renderer.eos_ids)]])
    with torch.inference_mode():
        scores = torch.log_softmax(reference(ids).logits[0].float(), dim=-1)  # type: ignore[attr-defined]
    wanted = -sum(float(scores[place - 1, ids[0, place]]) for place in range(len(prompt), ids.shape[1]))
    assert found[0].loss == pytest.approx(wanted, abs=0.02)


def test_a_question_that_is_too_long_is_left_out(spec: VerdictSpec, opened: LoadedModel, pool: Pool) -> None:
    sides = Side("base", opened, "none"), Side.open(pool, spec.after)
    long = Question(
        1, ({"role": "user", "content": "word " * 20_000},), {}, read_questions(spec.rows_file)[0].reference
    )
    said = answers(sides, long, 8)
    assert isinstance(said, str)
    assert "maximum context length" in said


def test_the_longest_answer_is_chosen_by_the_file(spec: VerdictSpec, opened: LoadedModel) -> None:
    questions = read_questions(spec.rows_file)
    assert longest_answer(questions, opened.renderer, 512) == 64
    long = [replace(questions[0], reference=replace(questions[0].reference, text="word " * 100))]
    assert 180 < longest_answer(long, opened.renderer, 512) < 280
    assert longest_answer(long, opened.renderer, 100) == 100
