"""The key `tunesmith` of a job: options checked by name, value and limit, shown as used, kept with the job."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.api.conftest import Json, Refused, Upload

from tunesmith.api.training_options import requested_resources, resolve_options
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import AdapterManifest
from tunesmith.settings import Settings

JOBS = "/v1/fine_tuning/jobs"
LORA = {
    "adapter": "lora",
    "base_learning_rate": 2.5e-4,
    "lora_rank": 16,
    "lora_alpha": 32.0,
    "lora_dropout": 0.0,
    "lora_targets": "all-linear",
    "quantization": "none",
    "matmul_precision": "float32",
    "schedule": "linear",
    "warmup_ratio": 0.03,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
}
PARENT = AdapterManifest("b", "", "", rank=8, alpha=4.0, target_modules=("q_proj", "v_proj"), step=1)


def test_a_job_shows_what_it_will_use(client: TestClient, create: Callable[..., Json]) -> None:
    asked = {
        "lora_rank": 8,
        "lora_alpha": 12,
        "lora_targets": "q_proj,v_proj",
        "schedule": "cosine",
        "lora_dropout": None,
    }
    job = create(tunesmith=asked)
    used = {**LORA, "lora_rank": 8, "lora_alpha": 12.0, "lora_targets": ["q_proj", "v_proj"], "schedule": "cosine"}
    assert job["tunesmith"] == used
    assert client.get(f"{JOBS}/{job['id']}").json()["tunesmith"] == used
    assert create()["tunesmith"] == create(tunesmith=None)["tunesmith"] == create(tunesmith={})["tunesmith"] == LORA


@pytest.mark.parametrize("asked", [True, False, 0.25])
def test_a_job_shows_whether_it_is_to_be_evaluated(create: Callable[..., Json], asked: bool | float) -> None:
    assert create(tunesmith={"evaluate": asked})["tunesmith"] == {**LORA, "evaluate": asked}
    assert create(tunesmith={"evaluate": None})["tunesmith"] == LORA


def test_a_share_to_hold_out_and_a_validation_file_contradict_each_other(
    client: TestClient, upload: Upload, refused: Refused, create: Callable[..., Json]
) -> None:
    held_out = upload()["id"]
    body = {"model": "gpt-3.5-turbo", "training_file": held_out, "validation_file": held_out}
    error = refused(client.post(JOBS, json={**body, "tunesmith": {"evaluate": 0.1}}))
    assert error["param"] == "tunesmith.evaluate"
    assert "the job has a validation file" in error["message"]
    assert create(validation_file=held_out, tunesmith={"evaluate": True})["tunesmith"]["evaluate"] is True


def test_resources_are_refused_where_jobs_train_on_the_servers_machine(
    client: TestClient, upload: Upload, refused: Refused
) -> None:
    body = {"model": "gpt-3.5-turbo", "training_file": upload()["id"], "tunesmith": {"resources": {"gpus": 2}}}
    error = refused(client.post(JOBS, json=body))
    assert error["param"] == "tunesmith.resources"
    assert "this one trains on its own machine (setting launcher). Leave it out." in error["message"]


def test_resources_are_completed_from_the_setting_of_the_base() -> None:
    settings = Settings.model_validate({"launcher": "auto", "ray_resources": {"b": {"gpus": 1, "cpus": 8}}})
    given: JsonObject = {"resources": {"gpus": 2.0}, "lora_rank": 4}
    assert requested_resources(given, settings, "b") == {
        "resources": {"gpus": 2.0, "cpus": 8, "memory_gib": 0, "nodes": 1}
    }
    assert given == {"lora_rank": 4}
    assert requested_resources({}, settings, "b") == {}


@pytest.mark.parametrize(
    "asked", [{"gpus": 1.5}, {"gpu": 1}, {"cpus": "8"}, {"gpus": -1}, {"nodes": 0}, {"nodes": 1.5}, 2], ids=str
)
def test_resources_that_no_node_has_are_refused_with_those_that_one_may(
    client: TestClient, upload: Upload, refused: Refused, asked: object
) -> None:
    body = {"model": "gpt-3.5-turbo", "training_file": upload()["id"], "tunesmith": {"resources": asked}}
    error = refused(client.post(JOBS, json=body))
    assert error["param"] == "tunesmith.resources"
    assert "give an object with gpus (a share of one, or 1 to 64), cpus and memory_gib" in error["message"]
    assert "and nodes (1 to 64)" in error["message"]


def test_a_rank_alone_keeps_the_strength_of_the_adapter(create: Callable[..., Json]) -> None:
    used = create(tunesmith={"lora_rank": 4})["tunesmith"]
    assert (used["lora_rank"], used["lora_alpha"]) == (4, 8.0)


def test_all_weights_have_a_rate_of_their_own_and_no_lora(create: Callable[..., Json]) -> None:
    options = create(tunesmith={"adapter": "none"})["tunesmith"]
    assert options == {
        "adapter": "none",
        "base_learning_rate": 2e-5,
        "schedule": "linear",
        "warmup_ratio": 0.03,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
    }
    assert create(tunesmith={"adapter": "none", "base_learning_rate": 1e-4})["tunesmith"]["base_learning_rate"] == 1e-4


@pytest.mark.parametrize(
    ("options", "param", "message"),
    [
        ({"lora_rank": 0}, "lora_rank", "0 is not possible: give a whole number from 1 to 512"),
        ({"lora_rank": "8"}, "lora_rank", "'8' is not possible: give a whole number"),
        ({"lora_rank": True}, "lora_rank", "True is not possible"),
        ({"lora_alpha": 0}, "lora_alpha", "give a number above 0 and at most 4096"),
        ({"lora_dropout": 1}, "lora_dropout", "give a number at least 0 and below 1"),
        ({"lora_targets": []}, "lora_targets", "give 'all-linear', 'attention' or 'mlp', or a list of layers' names"),
        ({"lora_targets": ["a.b"]}, "lora_targets", "['a.b'] is not possible"),
        ({"schedule": "step"}, "schedule", "'step' is not possible: give 'linear', 'cosine' or 'constant'"),
        ({"warmup_ratio": 1.5}, "warmup_ratio", "give a number from 0 to 1"),
        ({"weight_decay": -1}, "weight_decay", "give a number from 0 to 1"),
        ({"max_grad_norm": 1001}, "max_grad_norm", "give a number from 0 to 1,000"),
        ({"base_learning_rate": 0}, "base_learning_rate", "give a number above 0 and at most 1"),
        ({"adapter": "full"}, "adapter", "'full' is not possible: give 'lora' or 'none'"),
        (
            {"evaluate": "yes"},
            "evaluate",
            "give true, false or the share of the rows to hold out, above 0 and at most 0.5",
        ),
        ({"evaluate": 0.6}, "evaluate", "0.6 is not possible: give true, false or the share"),
        ({"evaluate": 1}, "evaluate", "1 is not possible"),
        ({"evaluate": 0}, "evaluate", "0 is not possible"),
        ({"quantization": "int2"}, "quantization", "give 'none', 'nf4', 'int8' or 'int4'"),
        ({"rank": 8}, "rank", "'tunesmith' may have: adapter, base_learning_rate, lora_rank"),
        ({"lora_rnk": 8}, "lora_rnk", ", evaluate, resources."),
        ({"n_epochs": 8}, "n_epochs", "send it under 'hyperparameters'"),
        ({"adapter": "none", "lora_rank": 8}, "lora_rank", "is for LoRA, but this job's adapter is 'none'"),
        ({"adapter": "none", "quantization": "nf4"}, "quantization", "is for LoRA"),
        ({"adapter": "none", "matmul_precision": "bfloat16"}, "matmul_precision", "is for LoRA"),
    ],
)
def test_a_wrong_option_is_named_with_value_and_limit(
    client: TestClient, upload: Upload, refused: Refused, options: JsonObject, param: str, message: str
) -> None:
    body = {"model": "gpt-3.5-turbo", "training_file": upload()["id"], "tunesmith": options}
    error = refused(client.post(JOBS, json=body))
    assert error["param"] == f"tunesmith.{param}"
    assert message in error["message"]
    assert client.get(JOBS).json()["data"] == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"lora_targets": "foo"}, "invalid_lora_targets"),
        ({"lora_targets": ["q_proj", "query"]}, "invalid_lora_targets"),
        ({"matmul_precision": "bfloat16"}, "matmul_precision_not_available"),  # this base is in float32
        pytest.param(
            {"quantization": "nf4"},
            "quantization_not_available",
            marks=pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="it is here"),
        ),
    ],
    ids=["layer", "one of two layers", "products", "nf4"],
)
def test_what_this_base_or_machine_does_not_have_is_refused_at_once(
    client: TestClient, base_dir: Path, refused: Refused, options: Json, code: str
) -> None:
    """Even before the file is looked for: so a command can ask before it uploads one."""
    body = {"model": "gpt-3.5-turbo", "training_file": f"file-{'0' * 24}", "tunesmith": options}
    error = refused(client.post(JOBS, json=body))
    assert (error["param"], error["code"]) == (f"tunesmith.{next(iter(options))}", code)
    assert client.get(JOBS).json()["data"] == []


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_number_that_is_none_is_refused(client: TestClient, upload: Upload, refused: Refused, value: str) -> None:
    body = json.dumps({"model": "gpt-3.5-turbo", "training_file": upload()["id"], "tunesmith": {"lora_alpha": 0.5}})
    headers = {"content-type": "application/json"}
    refused(client.post(JOBS, content=body.replace("0.5", value), headers=headers))


def test_an_option_in_the_wrong_place_is_pointed_to_the_right_one(
    client: TestClient, upload: Upload, refused: Refused
) -> None:
    body = {"model": "gpt-3.5-turbo", "training_file": upload()["id"], "lora_rank": 8}
    assert "send it as {'tunesmith': {'lora_rank': …}}" in refused(client.post(JOBS, json=body))["message"]
    body = {"model": "gpt-3.5-turbo", "training_file": body["training_file"], "tunesmith": "lora"}
    assert "'lora' is not an object - 'tunesmith'" in refused(client.post(JOBS, json=body))["message"]


def test_a_continued_adapter_keeps_its_shape(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, lora_rank=16, lora_alpha=64)
    used = resolve_options({"lora_alpha": 4, "lora_targets": ["v_proj", "q_proj"]}, settings, PARENT)
    assert (used["lora_rank"], used["lora_alpha"], used["lora_targets"]) == (8, 4.0, ["q_proj", "v_proj"])
    with pytest.raises(InvalidRequest, match=r"'tunesmith.lora_rank' is 16, but the tuned model .* has 8") as error:
        resolve_options({"lora_rank": 16}, settings, PARENT)
    assert error.value.param == "tunesmith.lora_rank"
    assert resolve_options({"adapter": "none"}, settings, PARENT)["adapter"] == "none"
