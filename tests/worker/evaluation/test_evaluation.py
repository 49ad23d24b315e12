"""A job's last phase: the evaluation is started, told and kept, and never fails the job."""

import json
import time
from collections.abc import Callable

import pytest
from openai.types import EvalRetrieveResponse
from openai.types.evals import RunRetrieveResponse
from openai.types.evals.runs import OutputItemRetrieveResponse
from tests.openai_types import accept_null_errors
from tests.processes import children
from tests.worker.conftest import ONCE, Begin, Submit, WaitFor, Workers, finished, messages, rows

from tunesmith.api.evals.plans import read_asking
from tunesmith.api.views.evals import eval_json, item_json, run_json
from tunesmith.evals.runs.criteria import read_criteria
from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobStatus, Store
from tunesmith.store.evals.rows import Invocations
from tunesmith.store.objects.pagination import Cursor
from tunesmith.worker.evaluation import split_of

DIFFERENT = b"".join(
    json.dumps({"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "!"}]}).encode()
    + b"\n"
    for n in range(40)
)


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda **values: monkeypatch.setenv("SCRIPTED_EVALUATOR", json.dumps(values))


def test_a_validation_file_brings_a_verdict(store: Store, begin: Begin, store_settings: Settings) -> None:
    done = begin(validation=DIFFERENT)
    assert done.status is JobStatus.SUCCEEDED
    metrics, evaluation = done.result_files
    assert store.blobs.path(metrics).read_text().startswith("step,")
    assert json.loads(store.blobs.path(evaluation).read_text())["verdict"] == "better"
    file = store.files.get(evaluation)
    assert file is not None
    assert (file.filename, file.purpose) == ("evaluation.json", "fine-tune-results")
    assert done.options["evaluation"] == {
        "verdict": "better",
        "sentence": "same text 0 % -> 100 % on 4 rows: better",
        "before": "smollm2-135m-instruct",
        "rows": 4,
        "forgetting": False,
        "file": evaluation,
        "eval_id": store.evals.page(Cursor(10)).data[0].id,
    }
    told = messages(store, done)
    verdict = "Verdict: same text 0 % -> 100 % on 4 rows: better; 4 of 9 rows"
    verdict += "; 2 of the rows are also in the training file, exactly or nearly"
    places = [told.index(one) for one in ("Evaluating on 4 rows", verdict, "general questions 41 % -> 12 % on 60 rows")]
    assert places == sorted(places)
    assert told[-1] == "The job has successfully completed"
    spec = json.loads(JobFiles(store_settings.paths.jobs, done.id).evaluation_spec(done.attempt).read_text())
    assert (spec["before"]["digest"], spec["before"]["adapter_dir"]) == ("none", None)
    assert (spec["after"]["name"], spec["after"]["digest"]) == (done.fine_tuned_model, "ab" * 32)
    assert spec["rows_file"] == str(store.blobs.path(str(done.validation_file)))


def test_the_verdict_is_an_eval_with_a_run_for_each_side(store: Store, begin: Begin) -> None:
    done = begin(validation=DIFFERENT)
    [shown] = store.evals.page(Cursor(10)).data
    assert (shown.name, shown.project) == (f"Verdict of {done.id}", done.project)
    assert shown.metadata == {
        "fine_tuning_job": done.id,
        "verdict": "better",
        "notes": "4 of 9 rows",
        "decides": "same text",
        "sentence": "same text 0 % -> 100 % on 4 rows: better",
    }
    read_criteria(shown.testing_criteria)  # they are graders that a further run can use
    before, after = store.runs.page(shown.id, Cursor(10, None, "asc")).data
    assert [run.model for run in (before, after)] == [done.base_model, done.fine_tuned_model]
    assert [run.metadata["side"] for run in (before, after)] == ["before", "after"]
    assert [(run.status, run.total, run.passed, run.failed) for run in (before, after)] == [
        ("completed", 4, 1, 3),
        ("completed", 4, 4, 0),
    ]
    assert before.totals.criteria == ((1, 3), (1, 3))
    assert before.totals.usage == {before.model: Invocations(4, 36, 8)}
    assert read_asking(after.data_source, Settings()).sampling["max_completion_tokens"] == 64
    right, wrong = store.runs.items(before, Cursor(2, None, "asc")).data
    assert (right.item["line"], right.state, wrong.state) == (1, "pass", "fail")
    assert [(one["name"], one["score"], one["passed"]) for one in wrong.results] == [
        ("same text", 0.0, False),
        ("ROUGE-L", 0.0, False),
    ]
    assert wrong.sample is not None
    assert (wrong.sample["finish_reason"], wrong.sample["output"]) == (
        "length",
        [{"role": "assistant", "content": "no"}],
    )
    assert store.run_queue.claim("runner", 30) is None
    accept_null_errors()
    EvalRetrieveResponse.model_validate(eval_json(shown), strict=True)
    RunRetrieveResponse.model_validate(run_json(after, shown.testing_criteria, "http://here"), strict=True)
    OutputItemRetrieveResponse.model_validate(item_json(wrong, shown.id), strict=True)


@pytest.mark.parametrize("which", ["file", "model"])
def test_the_eval_of_a_verdict_goes_with_what_it_is_about(store: Store, begin: Begin, which: str) -> None:
    done = begin(validation=DIFFERENT)
    [shown] = store.evals.page(Cursor(10)).data
    run = store.runs.page(shown.id, Cursor(1)).data[0]
    elsewhere = store.of("other")
    assert not elsewhere.models.delete(done.planned_model)
    assert not elsewhere.files.delete(done.result_files[1])
    assert store.evals.page(Cursor(10)).data
    gone = store.models.delete(done.planned_model) if which == "model" else store.files.delete(done.result_files[1])
    assert gone
    assert store.evals.page(Cursor(10)).data == ()
    assert store.runs.items(run, Cursor(10)).data == ()


@ONCE
@pytest.mark.parametrize(
    ("options", "validation"), [({}, None), ({"evaluate": False}, DIFFERENT)], ids=["no rows", "refused"]
)
def test_without_rows_or_where_it_is_refused_nothing_is_evaluated(
    store: Store, begin: Begin, options: dict[str, bool], validation: bytes
) -> None:
    done = begin(validation=validation, options=options)
    assert (done.status, len(done.result_files)) == (JobStatus.SUCCEEDED, 1)
    assert "evaluation" not in done.options
    assert not [one for one in messages(store, done) if "valuat" in one]


@ONCE
def test_forgetting_and_harm_are_warnings(store: Store, begin: Begin, evaluator: Callable[..., None]) -> None:
    evaluator(verdict="worse", forgetting=True)
    job = begin(validation=DIFFERENT)
    warned = [event.message for event in store.jobs.events(job.id, limit=1000).data if event.level == "warn"]
    assert [one.partition(" ")[0] for one in reversed(warned)] == ["Verdict:", "general"]


@ONCE
@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ({"fail": "No row could be asked: too long."}, "No row could be asked: too long"),
        ({"kill_at": 2}, "its process was killed by signal 9"),
        ({"verdict": ["better"]}, None),
    ],
    ids=["it says why", "killed", "well"],
)
def test_an_evaluation_that_fails_leaves_the_job_succeeded(
    store: Store, begin: Begin, evaluator: Callable[..., None], does: dict[str, object], reason: str | None
) -> None:
    evaluator(**does)
    done = begin(validation=DIFFERENT)
    assert (done.status, len(done.result_files)) == (JobStatus.SUCCEEDED, 1 if reason else 2)
    said = [one for one in messages(store, done) if "was not evaluated" in one]
    assert said == ([f"The tuned model was not evaluated: {reason}"] if reason else [])


@ONCE
def test_after_a_stopped_worker_the_next_attempt_goes_on_with_the_answers(
    store: Store,
    store_settings: Settings,
    workers: Workers,
    submit: Submit,
    wait_for: WaitFor,
    evaluator: Callable[..., None],
) -> None:
    evaluator(seconds=0.4)
    job = submit(validation=DIFFERENT)
    answers = JobFiles(store_settings.paths.jobs, job.id).answers
    workers.start()
    deadline = time.monotonic() + 30
    while not answers.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers.stop()
    waiting = store.jobs.get(job.id)
    assert waiting is not None
    assert not waiting.status.finished
    workers.start()
    done = wait_for(job, finished)
    assert (done.status, len(done.result_files)) == (JobStatus.SUCCEEDED, 2)
    found = json.loads(store.blobs.path(done.result_files[1]).read_text())
    assert [line.partition(" ")[0] for line in found["journal"]] == ["0", "1", "2", "3"]
    assert len({line.rpartition(" ")[2] for line in found["journal"]}) == 2
    assert messages(store, job).count("Evaluating on 4 rows") == 1
    assert len(store.evals.page(Cursor(10)).data) == 1


@ONCE
def test_a_cancelled_job_ends_its_evaluation(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, evaluator: Callable[..., None]
) -> None:
    evaluator(seconds=30)
    job = submit(validation=DIFFERENT)
    workers.start()
    deadline = time.monotonic() + 30
    while "Evaluating on 4 rows" not in messages(store, job):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    store.jobs.cancel(job.id)
    while running := children("scripted_evaluator", recursive=True):
        assert time.monotonic() < deadline, running
        time.sleep(0.05)
    assert store.jobs.get(job.id).status is JobStatus.CANCELLED  # type: ignore[union-attr]


@ONCE
def test_a_share_is_held_out_of_the_training_file_and_not_trained(
    store: Store, store_settings: Settings, workers: Workers, submit: Submit, wait_for: WaitFor
) -> None:
    job = submit(DIFFERENT, options={"evaluate": 0.25})
    split = split_of(store, store_settings, job)
    assert split is not None
    trained, held = (path.read_bytes().splitlines() for path in (split.training, split.held_out))
    assert (len(trained), len(held)) == (30, 10)
    assert sorted(trained + held) == sorted(DIFFERENT.splitlines())
    workers.start()
    done = wait_for(job, finished)
    assert (done.status, len(done.result_files)) == (JobStatus.SUCCEEDED, 2)
    files = JobFiles(store_settings.paths.jobs, job.id)
    spec, asked = (json.loads(path(done.attempt).read_text()) for path in (files.spec, files.evaluation_spec))
    assert (spec["training_file"], spec["validation_file"]) == (str(split.training), str(split.held_out))
    assert (asked["rows_file"], asked["training_file"]) == (str(split.held_out), str(split.training))


@ONCE
def test_what_the_evaluation_wrote_of_the_users_rows_ends_with_the_job(
    store: Store, store_settings: Settings, begin: Begin
) -> None:
    job = begin(DIFFERENT, options={"evaluate": True})
    files = JobFiles(store_settings.paths.jobs, job.id)
    deadline = time.monotonic() + 10
    while left := [path for path in files.passing if path.exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@ONCE
def test_a_file_with_too_few_rows_to_hold_some_out_fails_the_job(store: Store, begin: Begin) -> None:
    failed = begin(rows(12), options={"evaluate": 0.5})
    assert failed.error is not None
    assert failed.error["param"] == "tunesmith.evaluate"
    assert "on 6 of its 12 rows, which leaves 6 to train on" in str(failed.error["message"])
