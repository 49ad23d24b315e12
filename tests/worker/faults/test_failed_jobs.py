"""What a job fails with: its files, its method, a trainer that fails, crashes, or that others kill."""

import signal

import pytest
from tests.worker.conftest import GOOD, ONCE, Begin, Script, Submit, WaitFor, Workers, finished, messages, steps

from tunesmith.store import JobStatus, Store
from tunesmith.worker import loop
from tunesmith.worker.training import interruption

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
    store: Store, begin: Begin, param: str, training: bytes | None, validation: bytes | None, code: str, text: str
) -> None:
    failed = begin(training, validation)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert (failed.error["code"], failed.error["param"]) == (code, param)
    assert text in str(failed.error["message"])
    assert messages(store, failed)[-1] == failed.error["message"]
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
def test_chat_rows_do_not_fit_dpo(store: Store, begin: Begin) -> None:
    failed = begin(method="dpo")
    assert failed.error is not None
    assert failed.error["code"] == "invalid_training_file"
    assert "dpo" in str(failed.error["message"])


@ONCE
def test_a_trainer_that_fails_fails_the_job_with_its_words(store: Store, begin: Begin, script: Script) -> None:
    script(fail_at=2)
    failed = begin()
    assert failed.error == {"code": "non_finite_loss", "param": None, "message": "The loss of step 2 is nan."}


@ONCE
def test_a_file_deleted_under_its_trainer_is_what_the_job_fails_with(
    store: Store, begin: Begin, wait_for: WaitFor, script: Script
) -> None:
    script(fail_at=2, fail_code="trainer_error", seconds=0.5)
    job = begin(until=lambda row: row.status is JobStatus.RUNNING)
    assert store.files.delete(job.training_file)
    failed = wait_for(job, finished)
    assert failed.error is not None
    assert (failed.error["code"], failed.error["param"]) == ("deleted_training_file", "training_file")


@ONCE
def test_a_trainer_that_ends_without_a_word_is_quoted_from_its_log(store: Store, begin: Begin, script: Script) -> None:
    script(exit_at=2)
    failed = begin()
    assert failed.error is not None
    assert failed.error["code"] == "trainer_error"
    assert "ended with status 1. Its last words: ValueError: the tail of a traceback" in str(failed.error["message"])


@ONCE
def test_a_trainer_that_crashes_at_one_place_three_times_fails_the_job(
    store: Store, begin: Begin, script: Script
) -> None:
    script(kill_always=2, signal=int(signal.SIGSEGV))
    failed = begin()
    assert failed.error is not None
    assert failed.error["code"] == "trainer_killed"
    assert "crashed (signal 11) after step 1. This happened 3 times without a step" in str(failed.error["message"])
    assert steps(store, failed) == [1]


@ONCE
def test_a_trainer_that_others_kill_is_started_many_times_and_memory_is_not_blamed(
    begin: Begin, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loop.KILLS_WITHOUT_PROGRESS == 20  # each of which takes half a second
    monkeypatch.setattr(loop, "KILLS_WITHOUT_PROGRESS", 5)
    script(kill_always=2)
    failed = begin()
    assert failed.error is not None
    assert failed.error["message"] == (
        "The trainer was killed by signal 9 from outside after step 1. This happened 5 times without a step of "
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


@ONCE
def test_a_job_that_continues_from_a_vanished_checkpoint_fails(store: Store, begin: Begin) -> None:
    failed = begin(model="ft:smollm2-135m-instruct:acme:bot:AAAAAAAA:ckpt-step-3")
    assert failed.error is not None
    assert (failed.error["code"], failed.error["param"]) == ("deleted_model", "model")


@ONCE
def test_a_bad_file_is_found_while_another_job_trains(
    store: Store, begin: Begin, submit: Submit, wait_for: WaitFor, script: Script
) -> None:
    script(steps=1000, seconds=0.05)
    training = begin(until=lambda row: row.last_step >= 1)
    assert wait_for(submit(GOOD * 3), finished, 5).status is JobStatus.FAILED
    store.jobs.cancel(training.id)
