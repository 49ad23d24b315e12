"""What a user reads who got something wrong, through the current client, from a real server."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from openai.types.fine_tuning.fine_tuning_job import Error
from tests.contract.conftest import present
from tests.servers import Server

ROW = {"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Ho!"}]}
Outcome = Callable[..., tuple[str | None, Error]]
LINE = json.dumps(ROW).encode() + b"\n"


def message_of(error: pytest.ExceptionInfo[openai.APIError]) -> str:
    body: Any = error.value.body
    return str(body["message"])


@pytest.fixture
def outcome(client: openai.OpenAI, ended: Callable[[str], FineTuningJob]) -> Outcome:
    """(the file's status_details, the job's error) for a training file with this content."""

    def train(content: bytes, name: str = "train.jsonl") -> tuple[str | None, Error]:
        file = client.files.create(file=(name, content), purpose="fine-tune")
        file = client.files.wait_for_processing(file.id)
        job = ended(client.fine_tuning.jobs.create(model="gpt-3.5-turbo", training_file=file.id).id)
        assert job.status == "failed"
        error = present(job.error)
        assert client.fine_tuning.jobs.list_events(job.id).data[0].message == error.message
        return file.status_details, error

    return train


def test_fewer_than_ten_rows(outcome: Outcome) -> None:
    details, error = outcome(LINE * 9)
    assert details is None
    assert error.message.startswith("Training file has 9 example(s), but must have at least 10 examples. Add 1 or more")
    assert (error.code, error.param) == ("invalid_n_examples", "training_file")


def test_broken_json_names_its_line(outcome: Outcome) -> None:
    details, error = outcome(LINE * 10 + b'{"messages": [}\n')
    said = (
        "Invalid file format. Example 11 cannot be parsed. Error: line contains invalid json: "
        "Expecting value: line 1 column 15 (char 14) (line 11)"
    )
    assert details == said
    assert error.message == f"The job failed due to an invalid training file. {said}"
    assert (error.code, error.param) == ("invalid_training_file", "training_file")


def test_not_utf8(outcome: Outcome) -> None:
    details, error = outcome(LINE * 10 + '{"messages": "Grüße"}\n'.encode("latin-1"))
    assert "Example 11 cannot be parsed. Error: line is not UTF-8: byte 0xfc" in present(details)
    assert "byte 0xfc" in error.message


def test_csv(outcome: Outcome) -> None:
    details, error = outcome(b"question,answer\n" + b"Hi?,Ho!\n" * 10, name="train.csv")
    assert "Expected JSONL, where every line is a JSON dictionary. Line 1 is not a dictionary" in present(details)
    assert '"question,answer"' in error.message


def test_rows_that_do_not_fit_the_method(
    client: openai.OpenAI, training_file: str, ended: Callable[[str], FineTuningJob]
) -> None:
    job = client.fine_tuning.jobs.create(model="gpt-3.5-turbo", training_file=training_file, method={"type": "dpo"})
    error = present(ended(job.id).error)
    assert "The file holds chat rows, but the training method is 'dpo'" in error.message
    assert (error.code, error.param) == ("invalid_training_file", "training_file")


def test_empty_file(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("train.jsonl", b""), purpose="fine-tune")
    assert message_of(caught).startswith("The file 'train.jsonl' is empty (0 bytes).")


def test_file_over_the_limit(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("train.jsonl", LINE * 40_000), purpose="fine-tune")
    assert "3000000" in message_of(caught).replace(",", "")


def test_unknown_model(client: openai.OpenAI, training_file: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model="gpt-nonexistent", training_file=training_file)
    assert message_of(caught).startswith("Model gpt-nonexistent is not available for fine-tuning or does not exist.")
    assert caught.value.code == "model_not_available"


def test_unknown_file_id(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model="gpt-3.5-turbo", training_file="file-abc123")
    assert message_of(caught) == (
        "invalid training_file: file-abc123 (there is no such file; upload it first, with purpose 'fine-tune')"
    )
    assert caught.value.param == "training_file"


def test_zero_epochs(client: openai.OpenAI, training_file: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(
            model="gpt-3.5-turbo", training_file=training_file, hyperparameters={"n_epochs": 0}
        )
    assert message_of(caught) == "0 is less than the minimum of 1 - 'hyperparameters.n_epochs'"


def test_suffix_of_65_characters(client: openai.OpenAI, training_file: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model="gpt-3.5-turbo", training_file=training_file, suffix="s" * 65)
    assert message_of(caught) == "the suffix has 65 characters; it must have 1 to 64 - 'suffix'"


def test_no_key(server: Server, client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.models.list(extra_headers={"Authorization": openai.Omit()})
    assert message_of(caught).startswith("You didn't provide an API key.")
    assert "the file `api-key` of the server's data directory" in message_of(caught)


def test_wrong_key(server: Server) -> None:
    with (
        openai.OpenAI(base_url=server.base_url, api_key="sk-this-is-not-a-key-at-all") as stranger,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        stranger.models.list()
    assert message_of(caught).startswith("Incorrect API key provided: sk-this-***-all. You can find your API key in")
    assert caught.value.code == "invalid_api_key"


def test_chat_with_a_deleted_model(client: openai.OpenAI, finished_job: FineTuningJob) -> None:
    earlier = client.fine_tuning.jobs.checkpoints.list(finished_job.id).data[1].fine_tuned_model_checkpoint
    assert client.models.delete(earlier).deleted is True
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=earlier, messages=[{"role": "user", "content": "Hi?"}])
    assert message_of(caught) == f"The model '{earlier}' does not exist. GET /v1/models lists those that do."
    assert caught.value.code == "model_not_found"


def test_cancelled_job_asked_for_its_result(client: openai.OpenAI, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(
        model="gpt-3.5-turbo", training_file=training_file, hyperparameters={"n_epochs": 50}
    )
    client.fine_tuning.jobs.cancel(job.id)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.result_files, job.fine_tuned_model, job.error) == ("cancelled", [], None, None)
    newest = client.fine_tuning.jobs.list_events(job.id, limit=1).data[0]
    assert (newest.level, newest.message) == ("warn", "Fine tuning process stopping due to job cancellation")
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []
    no_model: Any = job.fine_tuned_model  # None, against the client's types
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=no_model, messages=[{"role": "user", "content": "Hi?"}])
    assert "model" in message_of(caught)
