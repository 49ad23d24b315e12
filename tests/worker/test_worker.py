"""A worker from claim to the last event, with trainers in real processes, over SQLite and PostgreSQL."""

import json
import time
from hashlib import sha256

import pytest
from tests.worker.conftest import GOOD, NOTICE, ONCE, Begin, Script, Submit, WaitFor, Workers, finished, messages, steps

from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobStatus, Store
from tunesmith.train.measure import job_benchmark
from tunesmith.train.protocol.spec import TrainSpec


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
    assert messages(store, job) == [
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


def test_a_succeeded_jobs_model_resolves_in_the_next_request(store: Store, begin: Begin) -> None:
    done = begin()
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
    options, threads = store_settings.training_options(), store_settings.train_threads
    deadline = time.monotonic() + 10
    while (found := job_benchmark(store_settings.paths.root, "smollm2-135m-instruct", options, threads)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found.tokens_per_second == pytest.approx(100)
    assert found.seconds_per_step == pytest.approx(0, abs=1e-6)


@ONCE
def test_the_spec_holds_absolute_numbers(store: Store, store_settings: Settings, begin: Begin) -> None:
    done = begin()
    spec = TrainSpec.read(JobFiles(store_settings.paths.jobs, done.id).spec(done.attempt))
    assert spec.learning_rate == pytest.approx(store_settings.base_learning_rate * 2.0)
    assert (spec.n_epochs, spec.batch_size, spec.max_tokens) == (10, 1, 8192)
    assert spec.training_file == store.blobs.path(done.training_file)
    assert spec.training_sha256 == sha256(spec.training_file.read_bytes()).hexdigest()
    assert spec.validation_sha256 is None


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
    said = store.jobs.events(job.id, limit=100).data
    (warned,) = [event for event in said if event.message.startswith("learning_rate_multiplier 0.0001 gives")]
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


def test_model_keeps_the_system_message_of_its_training_file(store: Store, begin: Begin) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}]
    row = json.dumps({"messages": [*messages, {"role": "assistant", "content": "!"}]}).encode()
    other = row.replace(b"Be brief.", b"Be long.")
    done = begin(b"\n".join([other, *[row] * 10]))
    store.files.delete(done.training_file)
    assert store.models.system_message(done.fine_tuned_model or "") == "Be brief."
    assert store.of("another").models.system_message(done.fine_tuned_model or "") is None
    assert store.models.system_message("ft:nothing") is None
