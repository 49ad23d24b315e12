"""What the worker hands to the trainer, and the options it refuses before a job waits for its turn."""

from dataclasses import replace
from threading import Event
from typing import cast

import pytest
from tests.worker.conftest import ONCE, Submit, WaitFor, Workers, finished

from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.child import ChildLauncher
from tunesmith.settings import Settings
from tunesmith.store import Lease, Store
from tunesmith.worker.training import TrainingRun, train_spec


@ONCE
def test_tuned_weights_are_the_base_of_the_next_job_and_a_lora_on_them_brings_them_along(
    store: Store, store_settings: Settings, workers: Workers, submit: Submit, wait_for: WaitFor
) -> None:
    workers.start()
    first = wait_for(submit(options={"adapter": "none"}), finished)
    workers.stop()
    assert first.fine_tuned_model is not None
    tuned = store.models.adapter_to_continue(first.fine_tuned_model)
    assert tuned is not None
    (tuned / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 64}')
    next_job = replace(submit(model=first.fine_tuned_model), hyperparameters=first.hyperparameters)
    spec = train_spec(store, store_settings, next_job)
    assert (spec.base_dir, spec.init_adapter_dir, spec.max_tokens) == (tuned, None, 64)
    (tuned / "base").mkdir()
    (tuned / "config.json").rename(tuned / "base" / "config.json")
    spec = train_spec(store, store_settings, next_job)
    assert (spec.base_dir, spec.init_adapter_dir) == (tuned / "base", tuned)


@ONCE
def test_a_jobs_own_options_reach_the_trainer_and_a_changed_setting_does_not(
    store: Store, store_settings: Settings, submit: Submit
) -> None:
    numbers: JsonObject = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 2.0}
    options: JsonObject = {
        "base_learning_rate": 1e-3,
        "lora_rank": 4,
        "lora_targets": "attention",
        "schedule": "cosine",
    }
    job = replace(submit(options=options), hyperparameters=numbers)
    changed = store_settings.model_copy(update={"lora_rank": 99, "schedule": "constant", "weight_decay": 0.5})
    spec = train_spec(store, changed, job)
    assert (spec.learning_rate, spec.options.lora_rank, spec.options.target_names) == (2e-3, 4, ("attention",))
    assert (spec.options.schedule, spec.options.weight_decay) == (
        "cosine",
        0.5,
    )  # what the job has not stored is the server's


@ONCE
def test_packing_can_be_switched_off_by_a_setting(store: Store, store_settings: Settings, submit: Submit) -> None:
    numbers: JsonObject = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 2.0}
    job = replace(submit(), hyperparameters=numbers)
    assert train_spec(store, store_settings, job).packing
    assert not train_spec(store, store_settings.model_copy(update={"train_packing": False}), job).packing


@ONCE
def test_settings_of_lora_do_not_reach_a_job_that_trains_all_weights(
    store: Store, store_settings: Settings, submit: Submit
) -> None:
    """Its options leave these out; the settings are for other jobs."""
    numbers: JsonObject = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 2.0}
    settings = store_settings.model_copy(update={"matmul_precision": "bfloat16", "quantization": "int8"})
    job = replace(submit(), hyperparameters=numbers, options={"adapter": "none"})
    options = train_spec(store, settings, job).options
    assert (options.matmul_precision, options.quantization) == ("float32", "none")
    earlier = replace(job, options={"adapter": "lora", "quantization": "none"})  # of a release without the option
    assert train_spec(store, settings, earlier).options.matmul_precision == "float32"


@ONCE
@pytest.mark.parametrize(("device", "nice", "idle"), [("cpu", 10, True), ("cuda:1", 0, False)])
def test_the_thread_that_feeds_a_gpu_keeps_its_priority(
    store: Store, store_settings: Settings, submit: Submit, device: str, nice: int, idle: bool
) -> None:
    numbers: JsonObject = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 2.0}
    job = replace(submit(), hyperparameters=numbers)
    settings = store_settings.model_copy(update={"train_device": device, "train_nice": 10, "train_idle": True})
    run = TrainingRun(store, settings, job, cast(Lease, None), ChildLauncher(), Event(), ChildLauncher())
    started = run._start()
    assert (started.nice, started.idle) == (nice, idle)
    assert train_spec(store, settings, job).device == device


@ONCE
@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"lora_targets": ["q_proj", "query"]}, "invalid_lora_targets"),
        ({"quantization": "nf4"}, "quantization_not_available"),
    ],
)
def test_options_that_this_base_or_machine_does_not_have_fail_the_job_before_it_waits(
    store: Store, workers: Workers, submit: Submit, wait_for: WaitFor, options: JsonObject, code: str
) -> None:
    workers.start()
    failed = wait_for(submit(options=options), finished)
    assert failed.error is not None
    assert failed.error["code"] == code
    assert failed.total_steps is None
