"""An export of OpenAI's fine-tuning, read; and what training its jobs here again would change."""

import base64
import json
import shlex
from pathlib import Path

import pytest

from tunesmith.errors import DataError
from tunesmith.migration.openai_export import Export, ExportedJob, plain_csv, read_export
from tunesmith.migration.openai_rerun import Here, command, differences, obstacle

# A recorded answer of OpenAI's, with its habits: error {}, an id of 22 characters, numbers in both places.
JOB = {
    "object": "fine_tuning.job",
    "id": "ftjob-GHSN7rot4jyVbB745NTZUtLX",
    "model": "gpt-4o-mini-2024-07-18",
    "created_at": 1755206255,
    "finished_at": 1755206622,
    "fine_tuned_model": "ft:gpt-4o-mini-2024-07-18:acme:weather:9uJPbR69",
    "organization_id": "org-acme",
    "result_files": ["file-9ExY6vqQKkGWaPNc8LbRkR"],
    "status": "succeeded",
    "validation_file": None,
    "training_file": "file-MNu4SQN4hf2nJmWVXyv8qW",
    "hyperparameters": {"n_epochs": 10, "batch_size": 1, "learning_rate_multiplier": 1.8},
    "trained_tokens": 5830,
    "error": {},
    "user_provided_suffix": "weather",
    "seed": 2065781162,
    "estimated_finish": None,
    "integrations": [],
    "metadata": None,
    "usage_metrics": None,
    "shared_with_openai": False,
    "eval_id": None,
    "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 10}}},
}
HERE = Here("smollm2-135m-instruct", "smollm2-135m-instruct", 2.5e-4)


def job(**changes: object) -> ExportedJob:
    return ExportedJob.model_validate({**JOB, **changes})


def written(folder: Path, text: str) -> Export:
    (folder / "jobs.json").write_text(text, encoding="utf-8")
    return read_export(folder)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([JOB, {**JOB, "id": "ftjob-older000"}]),
        json.dumps({"object": "list", "data": [JOB, {**JOB, "id": "ftjob-older000"}], "has_more": False}),
        json.dumps({"data": [JOB, {**JOB, "id": "ftjob-older000"}]}),
        json.dumps(JOB) + "\n\n" + json.dumps({**JOB, "id": "ftjob-older000"}) + "\n",
    ],
    ids=["list", "page", "bare page", "lines"],
)
def test_jobs_are_read_in_every_form_oldest_first(tmp_path: Path, text: str) -> None:
    assert [one.id for one in written(tmp_path, text).jobs] == ["ftjob-older000", JOB["id"]]


def test_one_job_alone_is_no_page(tmp_path: Path) -> None:
    assert [one.id for one in written(tmp_path, json.dumps(JOB)).jobs] == [JOB["id"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON: line 1, column 2: it breaks off: the end is missing. Export it again."),
        ("", "is not JSON: it is empty. Export"),
        ("ids: 1", "is not JSON: it does not begin like JSON."),
        ('[{"id": "a"}\n {"id": "b"}]', "is not JSON: line 2, column 2: a comma is missing. Export"),
        ('[\n{"id": "a",}\n]', "is not JSON: line 2, column 11: a comma stands before the closing }. Export"),
        ("[1] [2]", "is not JSON: line 1, column 5: text follows the end of the JSON. Export"),
        (json.dumps(JOB) + "\n{'a': 1}", "line 2: A text stands in single quotes, as Python prints it. Export"),
        ('"jobs"', "neither a list"),
        (json.dumps([JOB, {**JOB, "id": "../../etc/passwd"}]), "entry 2: id is '../../etc/passwd'"),
        (json.dumps([{**JOB, "training_file": "file-../x"}]), "entry 1: training_file"),
        (json.dumps([{**JOB, "status": "sleeping"}]), "entry 1: status is 'sleeping'"),
        (json.dumps([5]), "entry 1: the entry is 5"),
    ],
)
def test_wrong_export_is_told_with_place_and_value(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=r"jobs\.json") as caught:
        written(tmp_path, text)
    assert said in caught.value.message


def test_another_encoding_is_named_without_pythons_words(tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_bytes(b'["caf\xe9"]')
    with pytest.raises(DataError, match=r"jobs\.json is not UTF-8 \(byte 6\)\. Export it again\.$"):
        read_export(tmp_path)


def test_folder_without_jobs_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"examples/export_openai\.py"):
        read_export(tmp_path)


def test_bytes_are_found_under_the_id_with_or_without_an_ending(tmp_path: Path) -> None:
    export = written(tmp_path, json.dumps([JOB]))
    assert export.content("file-MNu4SQN4hf2nJmWVXyv8qW") is None
    (tmp_path / "files").mkdir()
    path = tmp_path / "files" / "file-MNu4SQN4hf2nJmWVXyv8qW.jsonl"
    path.write_text("{}")
    assert export.content("file-MNu4SQN4hf2nJmWVXyv8qW") == path


def test_result_file_in_base64_becomes_plain() -> None:
    plain = b"step,train_loss\n1,0.5\n"
    assert plain_csv(base64.b64encode(plain)) == plain
    assert plain_csv(plain) == plain
    assert plain_csv(b"abcd") == b"abcd"


def test_numbers_come_from_both_places() -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 3}}}
    assert job(method=method, hyperparameters={"n_epochs": 4, "batch_size": None}).numbers == {
        "beta": 0.2,
        "n_epochs": 4,
    }
    assert job(method=None, hyperparameters=None).numbers == {}


def test_differences_name_model_rate_name_and_tokens() -> None:
    model, rate, name, tokens = differences(job(), HERE)
    assert "gpt-4o-mini-2024-07-18 is smollm2-135m-instruct here" in model
    assert "would give 0.00045" in rate
    assert "--lr-multiplier 1.8" in rate
    assert "gets a name of its own" in name
    assert "here the base's own counts" in tokens


def test_differences_of_unusual_jobs() -> None:
    found = differences(job(model="o4-mini", method={"type": "reinforcement"}, integrations=[{"type": "wandb"}]), HERE)
    assert any("reinforcement is not trained here" in one for one in found)
    assert any("integrations: metrics are sent where" in one for one in found)
    unknown = differences(job(model="gpt-9"), Here(None, "smollm2-135m-instruct", 1e-4))
    assert "is not an alias of a model here" in unknown[0]
    assert "train its job again first" in differences(job(model=JOB["fine_tuned_model"]), HERE)[0]


def test_command_repeats_the_job_as_far_as_it_can(tmp_path: Path) -> None:
    export = written(tmp_path, json.dumps([JOB]))
    assert "were not exported" in str(obstacle(job(), export))
    (tmp_path / "files").mkdir()
    for name in ("file-MNu4SQN4hf2nJmWVXyv8qW", "file-ValidationValidation"):
        (tmp_path / "files" / name).write_text("{}")
    assert obstacle(job(), export) is None
    assert "reinforcement" in str(obstacle(job(method={"type": "reinforcement"}), export))
    numbers = {"n_epochs": 60, "batch_size": 4, "beta": 0.1, "learning_rate_multiplier": 2}
    method = {"type": "dpo", "dpo": {"hyperparameters": numbers}}
    dpo = job(
        method=method, hyperparameters=numbers, user_provided_suffix="a b", validation_file="file-ValidationValidation"
    )
    assert shlex.split(command(dpo, export, HERE)) == [
        *("tunesmith", "train", str(tmp_path / "files" / "file-MNu4SQN4hf2nJmWVXyv8qW")),
        *("--model", "gpt-4o-mini-2024-07-18", "--validation", str(tmp_path / "files" / "file-ValidationValidation")),
        *("--method", "dpo", "--epochs", "50", "--batch-size", "4", "--beta", "0.1"),
        *("--suffix", "a b", "--seed", "2065781162"),
    ]
    assert "50" in differences(dpo, HERE)[2]
    unknown = command(job(model="gpt-9"), export, Here(None, "smollm2-135m-instruct", 1e-4))
    assert "--model smollm2-135m-instruct" in unknown


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, "line 2, has an image, sound or a file"),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "line 2, has an image"),
        ({"type": "text", "text": "what is image_url?"}, None),
    ],
    ids=["image", "audio", "words"],
)
def test_rows_with_images_get_no_command(tmp_path: Path, part: object, said: str | None) -> None:
    export = written(tmp_path, json.dumps([JOB]))
    (tmp_path / "files").mkdir()
    plain = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}
    other = {"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "Yo"}]}
    path = tmp_path / "files" / str(JOB["training_file"])
    path.write_text("".join(json.dumps(row) + "\n" for row in (plain, other)), "utf-8")
    reason = obstacle(export.jobs[0], export)
    assert reason is None if said is None else said in str(reason)


def test_an_error_shows_the_pattern_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"id is 'x': string should match pattern '\^ftjob-\[0-9A-Za-z\]"):
        written(tmp_path, json.dumps([{**JOB, "id": "x"}]))
