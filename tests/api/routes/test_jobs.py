"""Fine-tuning jobs: what a request may say, what is refused in which words, and the object in its recorded shape."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.api.conftest import Json, Refused, Upload, Valid

from tunesmith.api.app import create_app
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

JOBS = "/v1/fine_tuning/jobs"
KEYS = [
    "object", "id", "model", "created_at", "finished_at", "fine_tuned_model", "organization_id", "result_files",
    "status", "validation_file", "training_file", "hyperparameters", "trained_tokens", "error", "user_provided_suffix",
    "seed", "estimated_finish", "integrations", "metadata", "usage_metrics", "shared_with_openai", "eval_id", "method",
    "tunesmith",
]  # fmt: skip
AUTO = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}


def test_create_answers_with_all_keys_in_the_recorded_order(
    client: TestClient, create: Callable[..., Json], valid: Valid
) -> None:
    job = create()
    assert list(job) == KEYS
    assert len(KEYS) == 23 + 1
    valid("FineTuningJob", job)
    assert (job["object"], job["status"]) == ("fine_tuning.job", "validating_files")
    assert job["id"].startswith("ftjob-")
    assert (job["error"], job["metadata"], job["trained_tokens"], job["finished_at"]) == (None, None, None, None)
    assert (job["result_files"], job["integrations"]) == ([], [])
    assert job["organization_id"] == "org-acme"
    assert (job["hyperparameters"], list(job["hyperparameters"])) == (AUTO, list(AUTO))
    assert job["method"] == {"type": "supervised", "supervised": {"hyperparameters": AUTO}}
    assert 0 <= job["seed"] < 2**31
    assert client.get(f"{JOBS}/{job['id']}").json() == job


@pytest.mark.parametrize("model", ["gpt-3.5-turbo", "gpt-4o-mini-2024-07-18", "davinci-002", "smollm2-135m-instruct"])
def test_alias_is_resolved_visibly(create: Callable[..., Json], model: str) -> None:
    assert create(model=model)["model"] == "smollm2-135m-instruct"


def test_request_is_kept_as_given(create: Callable[..., Json], upload: Upload) -> None:
    validation = upload()["id"]
    job = create(suffix="My Weather!", seed=7, validation_file=validation, metadata={"team": "北京"})
    assert (job["user_provided_suffix"], job["seed"]) == ("My Weather!", 7)
    assert (job["validation_file"], job["metadata"]) == (validation, {"team": "北京"})


def test_empty_optional_fields_are_taken_as_absent(create: Callable[..., Json]) -> None:
    job = create(suffix=None, seed=None, validation_file=None, integrations=[], metadata=None, hyperparameters=None)
    assert (job["user_provided_suffix"], job["hyperparameters"]) == (None, AUTO)


def test_hyperparameters_of_2023_and_of_today_end_in_both_places(create: Callable[..., Json]) -> None:
    numbers = {"n_epochs": 3, "batch_size": 2, "learning_rate_multiplier": 0.5}
    old = create(hyperparameters=numbers)
    new = create(method={"type": "supervised", "supervised": {"hyperparameters": numbers}})
    for job in (old, new):
        assert job["hyperparameters"] == numbers
        assert job["method"]["supervised"]["hyperparameters"] == numbers
        assert list(job["hyperparameters"]) == ["n_epochs", "batch_size", "learning_rate_multiplier"]
        assert list(job["method"]["supervised"]["hyperparameters"]) == [
            "batch_size",
            "learning_rate_multiplier",
            "n_epochs",
        ]


def test_method_without_hyperparameters_is_auto(create: Callable[..., Json]) -> None:
    assert create(method={"type": "supervised"})["hyperparameters"] == AUTO


def test_hyperparameters_of_both_places_complete_each_other(create: Callable[..., Json]) -> None:
    parts = {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3}}}, "hyperparameters": {"n_epochs": 2}}
    numbers = {"batch_size": "auto", "beta": 0.3, "learning_rate_multiplier": "auto", "n_epochs": 2}
    assert create(**parts)["method"]["dpo"]["hyperparameters"] == numbers


def test_contradicting_hyperparameters_are_refused(client: TestClient, upload: Upload, refused: Refused) -> None:
    body = {
        "model": "gpt-3.5-turbo",
        "training_file": upload()["id"],
        "hyperparameters": {"n_epochs": 2},
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
    }
    assert "differ" in refused(client.post(JOBS, json=body))["message"]


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "0 is less than the minimum of 1"),
        ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs", "51 is greater than the maximum of 50"),
        (
            {"hyperparameters": {"n_epochs": 2.5}},
            "hyperparameters.n_epochs",
            "2.5 is neither a whole number nor 'auto'",
        ),
        (
            {"hyperparameters": {"n_epochs": "3"}},
            "hyperparameters.n_epochs",
            "'3' is neither a whole number nor 'auto'",
        ),
        ({"hyperparameters": {"n_epochs": True}}, "hyperparameters.n_epochs", "True is neither a whole number nor"),
        (
            {"hyperparameters": {"batch_size": 257}},
            "hyperparameters.batch_size",
            "257 is greater than the maximum of 256",
        ),
        (
            {"hyperparameters": {"learning_rate_multiplier": 0}},
            "hyperparameters.learning_rate_multiplier",
            "0 is out of range: it must be above 0",
        ),
        ({"hyperparameters": {"epochs": 3}}, "hyperparameters.epochs", "Unknown parameter: 'hyperparameters.epochs'."),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": -1}}}},
            "method.supervised.hyperparameters.n_epochs",
            "-1 is less than the minimum of 1",
        ),
        (
            {"method": {"type": "magic"}},
            "method.type",
            "'magic' is not a method of this server; give 'supervised' or 'dpo' - 'method.type'",
        ),
        ({"method": "supervised"}, "method", "'supervised' is not an object - 'method'"),
        ({"metadata": []}, "metadata", "[] is not an object"),
        ({"integrations": "wandb"}, "integrations", "'wandb' is not a list"),
        ({"method": {"type": "supervised", "dpo": {}}}, "method", "type is 'supervised', but settings for 'dpo'"),
        ({"suffix": "s" * 65}, "suffix", "the suffix has 65 characters; it must have 1 to 64"),
        ({"suffix": ""}, "suffix", "the suffix has 0 characters; it must have 1 to 64"),
        ({"suffix": "!?"}, "suffix", "'!?' has no letter and no digit"),
        ({"seed": -1}, "seed", "-1 is less than the minimum of 0"),
        ({"seed": 2**31}, "seed", "2147483648 is greater than the maximum of 2147483647"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "17 pairs are given; at most 16"),
        ({"metadata": {"k" * 65: ""}}, "metadata", "has 65 characters; it must have 1 to 64"),
        ({"metadata": {"k": "v" * 513}}, "metadata", "has 513 characters; at most 512"),
        ({"metadata": {"k": 1}}, "metadata.k", "1 is not a string"),
        ({"integrations": [{"type": "mlflow"}]}, "integrations[0].type", "'mlflow' is not an integration"),
        ({"integrations": [{"type": "wandb"}]}, "integrations[0].wandb", "Missing required parameter"),
        ({"integrations": [{"type": "wandb", "wandb": {}}]}, "integrations[0].wandb.project", "Missing required"),
        (
            {"integrations": [{"type": "wandb", "wandb": {"project": "p", "tags": [1]}}]},
            "integrations[0].wandb.tags[0]",
            "1 is not a string",
        ),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}] * 6}, "integrations", "at most 5"),
        (
            {"integrations": [{"type": "wandb", "wandb": {"project": "p", "tags": ["t" * 65]}}]},
            "integrations[0].wandb.tags[0]",
            "string should have at most 64 characters",
        ),
        ({"n_epochs": 3}, "n_epochs", "Unknown parameter: 'n_epochs'."),
        ({"model": 7}, "model", "7 is not a string"),
        ({"validation_file": 7}, "validation_file", "invalid validation_file: 7"),
    ],
)
def test_wrong_field_is_named_with_value_and_limit(
    client: TestClient, upload: Upload, refused: Refused, fields: JsonObject, param: str, message: str
) -> None:
    body = {"model": "gpt-3.5-turbo", "training_file": upload()["id"], **fields}
    error = refused(client.post(JOBS, json=body))
    assert error["param"] == param
    assert message in error["message"]
    assert client.get(JOBS).json()["data"] == []


@pytest.mark.parametrize("absent", ["model", "training_file"])
def test_missing_field_is_named(client: TestClient, upload: Upload, refused: Refused, absent: str) -> None:
    body = {"model": "gpt-3.5-turbo", "training_file": upload()["id"]}
    del body[absent]
    error = refused(client.post(JOBS, json=body))
    assert (error["message"], error["param"]) == (f"Missing required parameter: '{absent}'.", absent)


def test_unknown_model_is_refused_in_the_recorded_words(client: TestClient, upload: Upload, refused: Refused) -> None:
    error = refused(client.post(JOBS, json={"model": "gpt-nonexistent", "training_file": upload()["id"]}))
    said = error.pop("message")
    assert said.startswith(
        "Model gpt-nonexistent is not available for fine-tuning or does not exist. Bases here: smollm2"
    )
    assert "tunesmith models add gpt-nonexistent OWNER/NAME" in said
    assert error == {
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_available",
    }


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("/nowhere", "Base mine cannot be used: its directory does not exist."),
        ("models/a/b", "Base mine cannot be used: 'models/a/b' in the setting `bases` is neither a hub id"),
        ("{}", "Base mine cannot be used: the family gpt2 is not supported: it keeps the weights of its layers"),
    ],
    ids=["missing", "relative", "gpt2"],
)
def test_base_that_cannot_be_trained_is_refused_at_once(
    settings: Settings, store: Store, key: str, rows: bytes, refused: Refused, tmp_path: Path, where: str, said: str
) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 8, "n_positions": 64})
    )
    settings = settings.model_copy(update={"bases": {"mine": where.format(tmp_path)}, "base_model": "mine"})
    with TestClient(create_app(settings, store, Pool(settings)), headers={"Authorization": f"Bearer {key}"}) as client:
        file = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", rows)}).json()["id"]
        for model in ("mine", "gpt-4o-mini"):
            error = refused(client.post(JOBS, json={"model": model, "training_file": file}))
            assert error["message"].startswith(said)
            assert (error["param"], error["code"]) == ("model", "base_not_usable")
            assert str(tmp_path) not in error["message"]
        assert client.get(JOBS).json()["data"] == []


@pytest.mark.parametrize(
    ("file_id", "message"),
    [
        ("x", "invalid training_file: Invalid File Name"),
        ("file-" + "a" * 24, "invalid training_file: file-" + "a" * 24),
        ("../api-key", "invalid training_file: Invalid File Name"),
    ],
)
def test_unknown_training_file_is_refused(client: TestClient, refused: Refused, file_id: str, message: str) -> None:
    error = refused(client.post(JOBS, json={"model": "gpt-3.5-turbo", "training_file": file_id}))
    assert error["message"].startswith(message)
    assert error["param"] == "training_file"


def test_unknown_validation_file_is_refused(client: TestClient, upload: Upload, refused: Refused) -> None:
    body = {"model": "gpt-3.5-turbo", "training_file": upload()["id"], "validation_file": "file-gone"}
    error = refused(client.post(JOBS, json=body))
    assert error["message"].startswith("invalid validation_file: file-gone")
    assert error["param"] == "validation_file"


def test_file_of_another_purpose_is_refused(client: TestClient, upload: Upload, refused: Refused) -> None:
    file_id = upload(purpose="user_data")["id"]
    error = refused(client.post(JOBS, json={"model": "gpt-3.5-turbo", "training_file": file_id}))
    assert "its purpose is 'user_data'" in error["message"]


def test_reinforcement_is_refused_by_name(client: TestClient, upload: Upload, refused: Refused) -> None:
    method = {"type": "reinforcement", "reinforcement": {"grader": {"type": "string_check"}}}
    body = {"model": "gpt-3.5-turbo", "training_file": upload()["id"], "method": method}
    error = refused(client.post(JOBS, json=body))
    assert error["message"].startswith("The method 'reinforcement' is not available here.")
    assert (error["param"], error["code"]) == ("method.type", "method_not_available")


def test_preference_tuning_has_a_beta_in_its_method_only(create: Callable[..., Json], valid: Valid) -> None:
    auto = create(method={"type": "dpo"})
    assert auto["method"] == {"type": "dpo", "dpo": {"hyperparameters": {**AUTO, "beta": "auto"}}}
    given = create(method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2}}})
    assert given["method"]["dpo"]["hyperparameters"] == {**AUTO, "beta": 0.2, "n_epochs": 2}
    assert given["hyperparameters"] == {**AUTO, "n_epochs": 2}
    old = create(method={"type": "dpo"}, hyperparameters={"n_epochs": 2})
    assert old["method"]["dpo"]["hyperparameters"] == {**AUTO, "beta": "auto", "n_epochs": 2}
    for job in (auto, given, old):
        valid("FineTuningJob", job)


def test_a_tuned_model_can_be_tuned_further(create: Callable[..., Json], finished_job: Json) -> None:
    assert create(model=finished_job["fine_tuned_model"])["model"] == finished_job["fine_tuned_model"]


def test_finished_job_shows_numbers_in_both_places(finished_job: Json, valid: Valid) -> None:
    valid("FineTuningJob", finished_job)
    assert re.fullmatch(r"ft:smollm2-135m-instruct:acme:weather:\w{8}", finished_job["fine_tuned_model"])
    numbers = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 2.0}
    assert finished_job["hyperparameters"] == numbers
    assert finished_job["method"] == {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    assert (finished_job["status"], finished_job["trained_tokens"]) == ("succeeded", 6810)
    assert finished_job["finished_at"] >= finished_job["created_at"]


def test_result_file_is_plain_csv(client: TestClient, finished_job: Json) -> None:
    (file_id,) = finished_job["result_files"]
    file = client.get(f"/v1/files/{file_id}").json()
    assert (file["purpose"], file["filename"], file["status"]) == ("fine-tune-results", "step_metrics.csv", "processed")
    assert client.get(f"/v1/files/{file_id}/content").text.startswith("step,train_loss,train_accuracy,")


def test_checkpoints_come_newest_first_and_the_last_bears_the_models_name(
    client: TestClient, finished_job: Json, valid: Valid
) -> None:
    answer = client.get(f"{JOBS}/{finished_job['id']}/checkpoints").json()
    valid("ListFineTuningJobCheckpointsResponse", answer)
    points = answer["data"]
    assert [point["step_number"] for point in points] == [30, 20, 10]
    assert points[0]["fine_tuned_model_checkpoint"] == finished_job["fine_tuned_model"]
    assert points[1]["fine_tuned_model_checkpoint"].endswith(":ckpt-step-20")
    assert points[0]["metrics"] == {
        "train_loss": 0.5,
        "train_mean_token_accuracy": 0.75,
        "step": 30,
        "type": "supervised",
    }
    assert (answer["first_id"], answer["last_id"]) == (points[0]["id"], points[2]["id"])
    rest = client.get(f"{JOBS}/{finished_job['id']}/checkpoints", params={"after": points[0]["id"], "limit": 1}).json()
    assert [point["id"] for point in rest["data"]] == [points[1]["id"]]
    assert rest["has_more"] is True


def test_events_come_newest_first_with_their_data(client: TestClient, finished_job: Json, valid: Valid) -> None:
    answer = client.get(f"{JOBS}/{finished_job['id']}/events").json()
    assert list(answer) == ["object", "data", "has_more"]
    messages = [event["message"] for event in answer["data"]]
    assert messages == [
        "The job has successfully completed",
        "Step 1/30: training loss=1.50",
        "Fine-tuning job started",
        f"Created fine-tuning job: {finished_job['id']}",
    ]
    assert list(answer["data"][0]) == ["object", "id", "created_at", "level", "message", "data", "type"]
    assert [event["type"] for event in answer["data"]] == ["message", "metrics", "message", "message"]
    assert answer["data"][1]["data"]["train_loss"] == 1.5
    assert (answer["data"][2]["data"], answer["data"][3]["data"]) == (None, {})
    valid("ListFineTuningJobEventsResponse", answer)


@pytest.mark.parametrize("name", ["after", "starting_after", "cursor"])
def test_events_page_by_any_of_the_three_names(client: TestClient, finished_job: Json, name: str) -> None:
    path = f"{JOBS}/{finished_job['id']}/events"
    whole = client.get(path).json()["data"]
    first = client.get(path, params={"limit": 3}).json()
    assert first["has_more"] is True
    rest = client.get(path, params={"limit": 3, name: first["data"][-1]["id"]}).json()
    assert first["data"] + rest["data"] == whole
    assert rest["has_more"] is False


def test_list_pages_newest_first(client: TestClient, create: Callable[..., Json], upload: Upload, valid: Valid) -> None:
    file_id = upload()["id"]
    ids = [create(training_file=file_id)["id"] for _ in range(3)][::-1]
    first = client.get(JOBS, params={"limit": 2}).json()
    valid("ListPaginatedFineTuningJobsResponse", first)
    assert list(first) == ["object", "data", "has_more"]
    assert ([job["id"] for job in first["data"]], first["has_more"]) == (ids[:2], True)
    rest = client.get(JOBS, params={"limit": 2, "starting_after": ids[1]}).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (ids[2:], False)


def test_list_takes_limit_zero_and_an_unknown_after(client: TestClient, create: Callable[..., Json]) -> None:
    job_id = create()["id"]
    for path in (JOBS, f"{JOBS}/{job_id}/events", f"{JOBS}/{job_id}/checkpoints"):
        answer = client.get(path, params={"limit": 0, "after": "after"})
        assert (answer.status_code, answer.json()["data"]) == (200, [])


def test_list_filters_by_metadata(client: TestClient, create: Callable[..., Json]) -> None:
    plain = create()["id"]
    named = create(metadata={"team": "a", "run": "1"})["id"]
    create(metadata={"team": "b"})

    def ids(**params: str) -> list[str]:
        return [job["id"] for job in client.get(JOBS, params=params).json()["data"]]

    assert ids(**{"metadata[team]": "a"}) == [named]
    assert ids(**{"metadata[team]": "a", "metadata[run]": "2"}) == []
    assert ids(metadata="null") == [plain]
    assert len(ids()) == 3


def test_integrations_are_shown_as_they_were_asked_for(create: Callable[..., Json], valid: Valid) -> None:
    full = {"project": "p", "name": "n", "entity": "e", "tags": ["a", "b"]}
    job = create(integrations=[{"type": "wandb", "wandb": full}, {"type": "wandb", "wandb": {"project": "q"}}])
    valid("FineTuningJob", job)
    first, second = job["integrations"]
    assert first == {"type": "wandb", "wandb": full}
    assert second == {"type": "wandb", "wandb": {"project": "q", "name": None, "entity": None, "tags": []}}


def test_paused_job_says_so_under_our_key(client: TestClient, create: Callable[..., Json]) -> None:
    job = create()
    assert "paused" not in job["tunesmith"]
    paused = client.post(f"{JOBS}/{job['id']}/pause").json()
    assert (paused["tunesmith"]["paused"], paused["status"]) == (True, "validating_files")
    assert client.get(JOBS).json()["data"][0]["tunesmith"]["paused"] is True
    assert "paused" not in client.post(f"{JOBS}/{job['id']}/resume").json()["tunesmith"]
    client.post(f"{JOBS}/{job['id']}/pause")
    assert "paused" not in client.post(f"{JOBS}/{job['id']}/cancel").json()["tunesmith"]
