"""A worker from claim to the last event, with trainers in real processes, over SQLite and PostgreSQL."""

import json
import signal
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.processes import children
from tests.worker.conftest import Workers

from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobRow, JobStatus, Store
from tunesmith.train.measure import job_benchmark
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.worker.training import interruption

Submit = Callable[..., JobRow]
WaitFor = Callable[..., JobRow]
Script = Callable[..., None]
NOTICE = "LoRA of rank 16"
# What does not touch SQL in a way of its own runs once; the rest runs over PostgreSQL too.
ONCE = pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)


def finished(row: JobRow) -> bool:
    return row.status.finished


def events(store: Store, job: JobRow) -> list[str]:
    return [event.message for event in reversed(store.jobs.events(job.id, limit=1000).data)]


def steps(store: Store, job: JobRow) -> list[int]:
    return [int(str(data["step"])) for data in store.jobs.metrics(job.id)]


def trainers() -> list[psutil.Process]:
    return children("scripted_trainer", recursive=True)


def test_a_job_runs_through_all_its_states(
    store: Store, store_settings: Settings, workers: Workers, submit: Submit, wait_for: WaitFor
) -> None:
    job = submit(
        validation=b'{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}\n'
    )
    workers.start()
    done = wait_for(job, finished)
    assert (done.status, done.error) == (JobStatus.SUCCEEDED, None)
    assert done.hyperparameters == {"n_epochs": 10, "batch_size": 1, "learning_rate_multiplier": 2.0}
    assert done.trained_tokens == 6810
    first, last = reversed(store.jobs.checkpoints(job.id).data)
    assert first.fine_tuned_model_checkpoint.endswith(":ckpt-step-3")
    assert last.fine_tuned_model_checkpoint == done.fine_tuned_model
    assert last.metrics == {"step": 6, "train_loss": 1 / 6}
    assert events(store, job) == [
        f"Created fine-tuning job: {job.id}",
        f"Validating training file: {job.training_file} and validation file: {job.validation_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        NOTICE,
        "Step 1/6: training loss=1.00",
        "Step 2/6: training loss=0.50, validation loss=1.00",
        "Step 3/6: training loss=0.33",
        "Step 4/6: training loss=0.25, validation loss=0.50",
        "Step 5/6: training loss=0.20",
        "Step 6/6: training loss=0.17, validation loss=0.33",
        "Evaluating on 4 rows",
        "Verdict: same text 0 % -> 100 % on 4 rows: better; 4 of 9 rows; 2 of the rows are also in the training file, "
        "exactly or nearly",
        "general questions 41 % -> 12 % on 60 rows",
        f"Checkpoint created at step 3 with Snapshot ID: {first.fine_tuned_model_checkpoint}",
        f"New fine-tuned model created: {done.fine_tuned_model}",
        "The job has successfully completed",
    ]
    result, _ = done.result_files
    table = store.blobs.path(result).read_text().splitlines()
    assert table[:3] == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,1.0,0.5,,",
        "2,0.5,0.5,1.0,0.25",
    ]


def test_a_succeeded_jobs_model_resolves_in_the_next_request(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor
) -> None:
    job = submit()
    workers.start()
    done = wait_for(job, finished)
    assert done.fine_tuned_model is not None
    resolved = store.models.resolve(done.fine_tuned_model)
    assert resolved is not None
    assert resolved.adapter_dir is not None
    assert (resolved.adapter_dir / "manifest.json").is_file()


@ONCE
def test_a_succeeded_job_leaves_the_machines_speed(
    script: Script, store_settings: Settings, workers: Workers, submit: Submit, wait_for: WaitFor
) -> None:
    script(steps=8, tokens=[10, 300, 80, 200, 120, 40, 250, 90])
    workers.start()
    assert wait_for(submit(), finished).status is JobStatus.SUCCEEDED
    options, deadline = store_settings.training_options(), time.monotonic() + 10
    while (found := job_benchmark(store_settings.paths.root, "smollm2-135m-instruct", options, 0)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found.tokens_per_second == pytest.approx(100)
    assert found.seconds_per_step == pytest.approx(0, abs=1e-6)


@ONCE
def test_the_spec_holds_absolute_numbers(
    store: Store, store_settings: Settings, workers: Workers, submit: Submit, wait_for: WaitFor
) -> None:
    job = submit()
    workers.start()
    done = wait_for(job, finished)
    spec = TrainSpec.read(JobFiles(store_settings.paths.jobs, job.id).spec(done.attempt))
    assert spec.learning_rate == pytest.approx(store_settings.base_learning_rate * 2.0)
    assert (spec.n_epochs, spec.batch_size, spec.max_tokens) == (10, 1, 8192)
    assert spec.training_file == store.blobs.path(job.training_file)
    assert spec.training_sha256 == sha256(spec.training_file.read_bytes()).hexdigest()
    assert spec.validation_sha256 is None


GOOD = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
FAILURES = [
    (
        "training_file",
        GOOD * 7,
        None,
        "invalid_n_examples",
        "Training file has 7 example(s), but must have at least 10 examples",
    ),
    ("training_file", b"{}\n" * 10, None, "invalid_file_format", "Example 1"),
    ("training_file", GOOD * 9 + b'{"messages": [\n', None, "invalid_training_file", "Example 10 cannot be parsed"),
    ("validation_file", None, b"not json\n", "invalid_validation_file", "invalid validation file"),
]


@ONCE
@pytest.mark.parametrize(("param", "training", "validation", "code", "text"), FAILURES, ids=range(4))
def test_a_bad_file_fails_the_job(
    store: Store,
    workers: Workers,
    submit: Submit,
    wait_for: WaitFor,
    param: str,
    training: bytes | None,
    validation: bytes | None,
    code: str,
    text: str,
) -> None:
    job = submit(training, validation)
    workers.start()
    failed = wait_for(job, finished)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert (failed.error["code"], failed.error["param"]) == (code, param)
    assert text in str(failed.error["message"])
    assert events(store, job)[-1] == failed.error["message"]
    assert failed.hyperparameters["n_epochs"] == "auto"


@ONCE
@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_a_deleted_file_fails_the_job(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, param: str
) -> None:
    job = submit(validation=GOOD * 1)
    store.files.delete(getattr(job, param))
    workers.start()
    failed = wait_for(job, finished)
    which = param.removesuffix("_file")
    assert failed.error == {
        "code": f"deleted_{param}",
        "param": param,
        "message": f"The job failed because the {which} file was deleted",
    }


@ONCE
def test_chat_rows_do_not_fit_dpo(store: Store, workers: Workers, submit: Submit, wait_for: WaitFor) -> None:
    job = submit(method="dpo")
    workers.start()
    failed = wait_for(job, finished)
    assert failed.error is not None
    assert failed.error["code"] == "invalid_training_file"
    assert "dpo" in str(failed.error["message"])


@ONCE
def test_a_trainer_that_fails_fails_the_job_with_its_words(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(fail_at=2)
    job = submit()
    workers.start()
    failed = wait_for(job, finished)
    assert failed.error == {"code": "non_finite_loss", "param": None, "message": "The loss of step 2 is nan."}


@ONCE
def test_a_file_deleted_under_its_trainer_is_what_the_job_fails_with(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(fail_at=2, fail_code="trainer_error", seconds=0.5)
    job = submit()
    workers.start()
    wait_for(job, lambda row: row.status is JobStatus.RUNNING)
    assert store.files.delete(job.training_file)
    failed = wait_for(job, finished)
    assert failed.error is not None
    assert (failed.error["code"], failed.error["param"]) == ("deleted_training_file", "training_file")


@ONCE
def test_a_trainer_that_ends_without_a_word_is_quoted_from_its_log(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(exit_at=2)
    job = submit()
    workers.start()
    failed = wait_for(job, finished)
    assert failed.error is not None
    assert failed.error["code"] == "trainer_error"
    assert "ended with status 1. Its last words: ValueError: the tail of a traceback" in str(failed.error["message"])


@pytest.mark.parametrize("skip_replay", [False, True])
def test_a_killed_trainer_is_started_again_and_goes_on(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script, skip_replay: bool
) -> None:
    script(kill_at=4, skip_replay=skip_replay)
    job = submit()
    workers.start()
    done = wait_for(job, finished)
    assert done.status is JobStatus.SUCCEEDED
    assert steps(store, job) == [1, 2, 3, 4, 5, 6]
    said = events(store, job)
    assert said.count(NOTICE) == 1
    assert said.count("Fine-tuning job started") == 1
    assert any("killed by signal 9 from outside after step 3" in text for text in said)
    assert "Training goes on after an interruption (attempt 3)" in said


@ONCE
def test_a_trainer_that_crashes_at_one_place_three_times_fails_the_job(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(kill_always=2, signal=int(signal.SIGSEGV))
    job = submit()
    workers.start()
    failed = wait_for(job, finished)
    assert failed.error is not None
    assert failed.error["code"] == "trainer_killed"
    assert "crashed (signal 11) after step 1. This happened 3 times without a step" in str(failed.error["message"])
    assert steps(store, job) == [1]


@ONCE
def test_a_trainer_that_others_kill_is_started_many_times_and_memory_is_not_blamed(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(kill_always=2)
    job = submit()
    workers.start()
    failed = wait_for(job, finished)
    assert failed.error is not None
    assert failed.error["message"] == (
        "The trainer was killed by signal 9 from outside after step 1. This happened 20 times without a step of "
        "progress. Something on the machine ends it: a limit of memory or time, or whoever runs it."
    )


@pytest.mark.parametrize(
    ("status", "ran_out", "cause", "text"),
    [
        (-9, True, "memory", "The machine ran out of memory, and the trainer was killed after step 7."),
        (-9, False, "outside", "The trainer was killed by signal 9 from outside after step 7."),
        (-15, True, "outside", "The trainer was killed by signal 15 from outside after step 7."),
        (143, False, "outside", "The trainer was asked to end from outside after step 7."),
        (-6, False, "crash", "The trainer crashed (signal 6) after step 7."),
    ],
)
def test_what_a_trainer_died_of_is_told_apart(status: int, ran_out: bool, cause: str, text: str) -> None:
    error = interruption(status, 7, ran_out=ran_out)
    assert (error.cause, error.message) == (cause, text)


def test_a_cancelled_job_loses_its_trainer_within_seconds(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(steps=1000, seconds=0.05)
    job = submit()
    workers.start()
    wait_for(job, lambda row: row.last_step >= 4)
    assert len(trainers()) == 1
    store.jobs.cancel(job.id)
    began = time.monotonic()
    while trainers():
        assert time.monotonic() - began < 3
        time.sleep(0.02)
    script()
    wait_for(other := submit(), finished)  # the worker is free again
    assert events(store, other)[-1] == "The job has successfully completed"
    assert events(store, job)[-1] == "Fine tuning process stopping due to job cancellation"
    assert store.jobs.get(job.id).status is JobStatus.CANCELLED  # type: ignore[union-attr]
    (kept, *_) = store.jobs.checkpoints(job.id).data
    assert store.models.resolve(kept.fine_tuned_model_checkpoint) is not None


def test_a_paused_job_goes_on_where_it_stopped(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(steps=30, seconds=0.05)
    job = submit()
    workers.start()
    wait_for(job, lambda row: row.last_step >= 3)
    store.jobs.pause(job.id)
    while trainers():
        time.sleep(0.02)
    paused = store.jobs.get(job.id)
    assert paused is not None
    time.sleep(0.3)
    assert store.jobs.get(job.id) == paused
    assert paused.status is JobStatus.QUEUED
    store.jobs.resume(job.id)
    done = wait_for(job, finished)
    assert done.status is JobStatus.SUCCEEDED
    assert steps(store, job) == list(range(1, 31))
    assert events(store, job).count("Fine-tuning job started") == 1


@ONCE
def test_a_worker_that_is_stopped_hands_its_job_to_the_next(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(steps=30, seconds=0.05)
    job = submit()
    workers.start()
    wait_for(job, lambda row: row.last_step >= 3)
    workers.stop()
    assert trainers() == []
    left = store.jobs.get(job.id)
    assert left is not None
    assert (left.status, left.worker) == (JobStatus.RUNNING, None)
    workers.start()
    assert wait_for(job, finished).status is JobStatus.SUCCEEDED
    assert steps(store, job) == list(range(1, 31))


@ONCE
def test_a_bad_file_is_found_while_another_job_trains(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(steps=1000, seconds=0.05)
    training = submit()
    workers.start()
    wait_for(training, lambda row: row.last_step >= 1)
    assert wait_for(submit(GOOD * 3), finished, 5).status is JobStatus.FAILED
    store.jobs.cancel(training.id)


def test_two_workers_share_the_jobs(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(seconds=0.05)
    made = [submit() for _ in range(4)]
    workers.start()
    workers.start()
    for job in made:
        assert wait_for(job, finished).status is JobStatus.SUCCEEDED
        assert steps(store, job) == [1, 2, 3, 4, 5, 6]


@ONCE
def test_a_tuned_model_can_be_tuned_further(
    store: Store, store_settings: Settings, workers: Workers, submit: Submit, wait_for: WaitFor
) -> None:
    workers.start()
    first = wait_for(submit(), finished)
    assert first.fine_tuned_model is not None
    second = wait_for(submit(model=first.fine_tuned_model), finished)
    assert second.status is JobStatus.SUCCEEDED
    spec = json.loads(JobFiles(store_settings.paths.jobs, second.id).spec(second.attempt).read_text())
    resolved = store.models.resolve(first.fine_tuned_model)
    assert resolved is not None
    assert spec["init_adapter_dir"] == str(resolved.adapter_dir)
    assert spec["base_name"] == "smollm2-135m-instruct"


@ONCE
def test_a_job_that_continues_from_a_vanished_checkpoint_fails(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor
) -> None:
    job = submit(model="ft:smollm2-135m-instruct:acme:bot:AAAAAAAA:ckpt-step-3")
    workers.start()
    failed = wait_for(job, finished)
    assert failed.error is not None
    assert (failed.error["code"], failed.error["param"]) == ("deleted_model", "model")


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_rows_that_are_cut_are_announced(
    store: Store, store_settings: Settings, submit: Submit, script: Script, wait_for: WaitFor
) -> None:
    long = GOOD.replace(b'"b"', b'"' + b"word " * 60 + b'"')
    job = submit(GOOD * 9 + long)
    workers = Workers(store, store_settings.model_copy(update={"max_example_tokens": 48}))
    workers.start()
    assert wait_for(job, finished).status is JobStatus.SUCCEEDED
    workers.stop()
    cut = store.jobs.events(job.id, limit=100).data
    assert [(event.level, event.message) for event in cut if "cut off" in event.message] == [
        ("warn", "1 row of the training file exceeds 48 tokens; what is beyond is cut off")
    ]


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_a_rate_that_trains_nothing_is_announced(
    store: Store, store_settings: Settings, submit: Submit, script: Script, wait_for: WaitFor
) -> None:
    asked: JsonObject = {"learning_rate_multiplier": 0.0001}
    job = submit(GOOD * 10, numbers=asked, options={"base_learning_rate": 0.0005})
    workers = Workers(store, store_settings)
    workers.start()
    assert wait_for(job, finished).status is JobStatus.SUCCEEDED
    workers.stop()
    events = store.jobs.events(job.id, limit=100).data
    (warned,) = [event for event in events if event.message.startswith("learning_rate_multiplier 0.0001 gives")]
    assert (warned.level, "0.0001 x the base rate 0.0005" in warned.message) == ("warn", True)


@ONCE
def test_a_step_has_rows_for_the_ranks_of_all_nodes_of_a_cluster(
    store: Store, store_settings: Settings, submit: Submit, script: Script, wait_for: WaitFor
) -> None:
    on_cluster = Workers(store, store_settings.model_copy(update={"launcher": "auto"}))
    job = submit(options={"resources": {"gpus": 4.0, "nodes": 2}})
    on_cluster.start()
    try:
        done = wait_for(job, finished)
    finally:
        on_cluster.stop()
    assert done.hyperparameters["batch_size"] == 10  # at least 8, and as many in the last step


@pytest.mark.parametrize("store_settings", ["postgresql"], indirect=True)
def test_a_database_that_drops_its_connections_loses_nothing(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, script: Script, postgres_socket: Path
) -> None:
    script(steps=40, seconds=0.05)
    job = submit()
    workers.start()
    wait_for(job, lambda row: row.last_step >= 2)
    with psycopg.connect(host=str(postgres_socket), user="postgres", dbname="postgres", autocommit=True) as admin:
        for _ in range(8):
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            time.sleep(0.15)
    done = wait_for(job, finished)
    assert done.status is JobStatus.SUCCEEDED
    assert done.attempt == 2  # checked, then trained in one go
    assert steps(store, job) == list(range(1, 41))


def test_model_keeps_the_system_message_of_its_training_file(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor
) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}]
    row = json.dumps({"messages": [*messages, {"role": "assistant", "content": "!"}]}).encode()
    other = row.replace(b"Be brief.", b"Be long.")
    job = submit(b"\n".join([other, *[row] * 10]))
    workers.start()
    done = wait_for(job, finished)
    store.files.delete(job.training_file)
    assert store.models.system_message(done.fine_tuned_model or "") == "Be brief."
    assert store.of("another").models.system_message(done.fine_tuned_model or "") is None
    assert store.models.system_message("ft:nothing") is None
