"""The client of 2023, unmodified: openai 0.28.1 in its own environment against a real server."""

from pathlib import Path

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from tests.contract.conftest import Legacy


def test_file_lives_its_life(legacy: Legacy, training_path: Path) -> None:
    result = legacy(
        """
        made = openai.File.create(file=open(path, "rb"), purpose="fine-tune")
        named = openai.File.create(file=open(path, "rb"), purpose="fine-tune", user_provided_filename="mine.jsonl")
        listed = [entry["id"] for entry in openai.File.list()["data"]]
        body = openai.File.download(made.id)
        result = {
            "made": made, "named": named, "again": openai.File.retrieve(made.id),
            "listed": made.id in listed and named.id in listed,
            "same": body == open(path, "rb").read(),
            "gone": [openai.File.delete(made.id), openai.File.delete(named.id)],
            "missing": refusal(openai.File.retrieve, made.id),
            "download": refusal(openai.File.download, made.id),
        }
        """,
        path=str(training_path),
    )
    assert result["made"]["filename"] == "file"
    assert result["named"]["filename"] == "mine.jsonl"
    assert result["made"]["status"] in ("uploaded", "processed")
    assert result["again"]["status"] == "processed"
    assert result["listed"]
    assert result["same"]
    assert [entry["deleted"] for entry in result["gone"]] == [True, True]
    missing = result["missing"]
    assert (missing["class"], missing["status"], missing["param"]) == ("InvalidRequestError", 404, "id")
    assert missing["message"] == f"No such File object: {result['made']['id']}"
    assert missing["request_id"].startswith("req_")
    assert result["download"]["message"] == missing["message"]


def test_job_is_created_listed_watched_and_cancelled(legacy: Legacy, training_file: str) -> None:
    result = legacy(
        """
        job = openai.FineTuningJob.create(
            training_file=file_id, model="gpt-3.5-turbo", suffix="old", hyperparameters={"n_epochs": 50}
        )
        listed = openai.FineTuningJob.list(limit=1)
        events = openai.FineTuningJob.list_events(id=job.id, limit=5)
        cancelled = openai.FineTuningJob.cancel(job.id)
        result = {
            "job": job, "listed": listed, "events": events, "cancelled": cancelled,
            "again": openai.FineTuningJob.retrieve(job.id),
            "paged": [entry.id for entry in openai.FineTuningJob.auto_paging_iter(limit=1)],
            "unknown": refusal(openai.FineTuningJob.retrieve, "ftjob-unknown"),
        }
        """,
        file_id=training_file,
    )
    job = result["job"]
    assert job["object"] == "fine_tuning.job"
    assert (job["model"], job["error"], job["status"]) == ("smollm2-135m-instruct", None, "validating_files")
    assert result["listed"]["data"][0]["id"] == job["id"]
    assert result["events"]["data"][-1]["message"] == f"Created fine-tuning job: {job['id']}"
    assert (result["cancelled"]["status"], result["again"]["status"]) == ("cancelled", "cancelled")
    assert len(result["paged"]) == len(set(result["paged"]))
    assert result["paged"][0] == job["id"]
    assert (result["unknown"]["class"], result["unknown"]["code"]) == ("InvalidRequestError", "fine_tune_not_found")


def test_finished_job_tells_its_story(legacy: Legacy, finished_job: FineTuningJob) -> None:
    result = legacy(
        """
        first = openai.FineTuningJob.list_events(id=job_id, limit=2)
        result = {
            "job": openai.FineTuningJob.retrieve(job_id),
            "first": first,
            "next": openai.FineTuningJob.list_events(id=job_id, limit=1, after=first["data"][-1]["id"]),
            "events": [event["message"] for event in openai.FineTuningJob.list_events(id=job_id, limit=100)["data"]],
        }
        result["csv"] = openai.File.download(result["job"]["result_files"][0]).decode("utf-8")
        """,
        job_id=finished_job.id,
    )
    job, events = result["job"], result["events"]
    assert job["fine_tuned_model"] == finished_job.fine_tuned_model
    assert job["hyperparameters"]["n_epochs"] == 3
    assert result["first"]["has_more"] is True
    assert result["first"]["data"][0]["message"] == "The job has successfully completed"
    assert result["next"]["data"][0]["message"] == events[2]
    assert events[-1] == f"Created fine-tuning job: {job['id']}"
    assert result["csv"].splitlines()[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert len(result["csv"].splitlines()) == 7


def test_chat_answers_plain_and_streamed(legacy: Legacy, finished_job: FineTuningJob) -> None:
    result = legacy(
        """
        messages = [{"role": "user", "content": "How is the weather in Rome?"}]
        plain = openai.ChatCompletion.create(model=model, messages=messages, temperature=0, max_tokens=12)
        stream = openai.ChatCompletion.create(model=model, messages=messages, temperature=0, max_tokens=12, stream=True)
        chunks = list(stream)
        result = {
            "plain": plain, "chunks": chunks, "ms": plain.response_ms, "organization": plain.organization,
            "engine": openai.ChatCompletion.create(engine=model, messages=messages, temperature=0, max_tokens=12),
        }
        """,
        model=finished_job.fine_tuned_model,
    )
    plain = result["plain"]
    assert plain["model"] == finished_job.fine_tuned_model
    text = plain["choices"][0]["message"]["content"]
    assert text
    assert all(len(chunk["choices"]) == 1 for chunk in result["chunks"])
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in result["chunks"]) == text
    assert result["chunks"][-1]["choices"][0]["finish_reason"] == plain["choices"][0]["finish_reason"]
    assert result["ms"] >= 1
    assert result["organization"] == "personal"
    assert result["engine"]["choices"][0]["message"]["content"] == text


def test_model_is_listed_retrieved_and_deleted(
    legacy: Legacy, client: openai.OpenAI, finished_job: FineTuningJob
) -> None:
    checkpoint = client.fine_tuning.jobs.checkpoints.list(finished_job.id).data[-1].fine_tuned_model_checkpoint
    result = legacy(
        """
        result = {
            "listed": [model.id for model in openai.Model.list()["data"]],
            "one": openai.Model.retrieve(name),
            "gone": openai.Model.delete(name),
            "missing": refusal(openai.Model.retrieve, name),
            "base": refusal(openai.Model.delete, "gpt-3.5-turbo"),
            "slash": refusal(openai.Model.retrieve, "Qwen/Qwen2.5-0.5B"),
        }
        """,
        name=checkpoint,
    )
    assert {checkpoint, finished_job.fine_tuned_model, "gpt-3.5-turbo"} <= set(result["listed"])
    assert (result["one"]["id"], result["one"]["owned_by"]) == (checkpoint, "personal")
    assert result["gone"] == {"id": checkpoint, "object": "model", "deleted": True}
    assert (result["missing"]["code"], result["missing"]["status"]) == ("model_not_found", 404)
    assert result["base"]["class"] == "InvalidRequestError"
    assert result["slash"]["message"] == "The model 'Qwen/Qwen2.5-0.5B' does not exist"


@pytest.mark.parametrize("key", ["", "wrong-key-of-some-length-here"])
def test_wrong_key_is_an_authentication_error(legacy: Legacy, key: str) -> None:
    result = legacy("openai.api_key = key or 'x'; result = refusal(openai.Model.list)", key=key)
    assert (result["class"], result["status"]) == ("AuthenticationError", 401)
    assert "tunesmith keys" in result["message"]


def test_fine_tunes_of_2022_point_to_the_jobs(legacy: Legacy) -> None:
    result = legacy("result = refusal(openai.FineTune.list)")
    assert (result["class"], result["status"]) == ("InvalidRequestError", 404)
    assert "/v1/fine_tuning/jobs" in result["message"]
