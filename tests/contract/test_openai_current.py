"""The official client of today: types, paging, raw headers, error classes, streams.

openai 1.x and 2.x run this file too (`test_openai_earlier.py`).
"""

import asyncio
import io
import re
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest
from openai import BaseModel
from openai.types import FileObject, Model, Upload
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.checkpoints import PermissionCreateResponse
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from openai.types.uploads import UploadPart
from tests.contract.conftest import present
from tests.servers import Server

RUN = f"openai {openai.__version__}"  # the same server answers the tests of other versions
WEATHER: Any = [{"role": "user", "content": "How is the weather in Rome?"}]
ModelT = TypeVar("ModelT", bound=BaseModel)


def strictly(kind: type[ModelT], value: BaseModel) -> ModelT:
    """The client keeps whatever comes; this makes its types say whether the shape is right."""
    return kind.model_validate(value.to_dict(), strict=True)


@pytest.mark.parametrize("form", ["path", "bytes", "handle", "tuple"])
def test_file_lives_its_life(client: openai.OpenAI, training_path: Path, form: str) -> None:
    content = training_path.read_bytes()
    given: Any = {
        "path": training_path,
        "bytes": content,
        "handle": io.BytesIO(content),
        "tuple": ("天气.jsonl", content, "application/jsonl"),
    }[form]
    file = client.files.create(file=given, purpose="fine-tune")
    strictly(FileObject, file)
    assert file.filename == {"path": training_path.name, "tuple": "天气.jsonl"}.get(form, "upload")
    assert client.files.wait_for_processing(file.id).status == "processed"
    content_answer = client.files.content(file.id)
    assert content_answer.read() == content
    assert content_answer.response.headers["content-type"] == "application/octet-stream"
    assert client.files.delete(file.id).deleted is True
    with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}"):
        client.files.retrieve(file.id)


def test_expiry_is_sent_in_brackets_and_honoured(client: openai.OpenAI, training_path: Path) -> None:
    file = client.files.create(
        file=training_path, purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == pytest.approx(file.created_at + 3600, abs=1)


def test_file_in_parts_is_one_file(client: openai.OpenAI, training_path: Path) -> None:
    content = training_path.read_bytes()
    upload = client.uploads.upload_file_chunked(
        file=training_path, mime_type="text/jsonl", purpose="fine-tune", part_size=1000
    )
    strictly(Upload, upload)
    file = present(upload.file)
    assert (upload.status, file.status, file.filename) == ("completed", "processed", training_path.name)
    assert client.files.content(file.id).read() == content
    begun = client.uploads.create(filename="a", purpose="fine-tune", bytes=3, mime_type="text/jsonl")
    strictly(UploadPart, client.uploads.parts.create(begun.id, data=b"abc"))
    assert strictly(Upload, client.uploads.cancel(begun.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        client.uploads.parts.create(begun.id, data=b"abc")


def test_files_page_through_themselves(client: openai.OpenAI, training_path: Path) -> None:
    made = {client.files.create(file=training_path, purpose="user_data").id for _ in range(3)}
    assert {file.id for file in client.files.list(purpose="user_data", limit=1)} == made
    for file_id in made:
        client.files.delete(file_id)


def test_job_has_the_clients_types_and_the_promised_values(
    client: openai.OpenAI, finished_job: FineTuningJob, training_file: str
) -> None:
    strictly(FineTuningJob, finished_job)
    assert (finished_job.model, finished_job.training_file) == ("smollm2-135m-instruct", training_file)
    assert re.fullmatch(r"ft:smollm2-135m-instruct:personal:contract:\w{8}", present(finished_job.fine_tuned_model))
    assert (finished_job.error, finished_job.seed) == (None, 1)
    assert finished_job.to_dict()["user_provided_suffix"] == "contract"
    numbers = finished_job.hyperparameters.to_dict()
    assert (numbers["n_epochs"], numbers["batch_size"]) == (3, 5)
    assert isinstance(numbers["learning_rate_multiplier"], float)
    supervised = present(present(finished_job.method).supervised)
    assert present(supervised.hyperparameters).to_dict() == numbers
    assert present(finished_job.trained_tokens) > 0
    assert present(finished_job.trained_tokens) % 3 == 0
    assert present(finished_job.finished_at) > finished_job.created_at


def test_our_own_options_travel_in_the_extra_body_and_come_back(client: openai.OpenAI, training_file: str) -> None:
    options = {"lora_rank": 4, "lora_targets": ["q_proj", "v_proj"], "schedule": "cosine"}
    job = client.fine_tuning.jobs.create(
        model="smollm2-135m-instruct", training_file=training_file, extra_body={"tunesmith": options}
    )
    client.fine_tuning.jobs.cancel(job.id)
    strictly(FineTuningJob, job)
    shown: Any = job.to_dict()["tunesmith"]
    assert options.items() <= shown.items()
    with pytest.raises(openai.BadRequestError, match="'linaer' is not possible: give 'linear', 'cosine' or 'constant'"):
        client.fine_tuning.jobs.create(
            model="smollm2-135m-instruct", training_file=training_file, extra_body={"tunesmith": {"schedule": "linaer"}}
        )


def test_events_page_through_themselves_in_the_recorded_order(
    client: openai.OpenAI, finished_job: FineTuningJob, training_file: str
) -> None:
    events = list(client.fine_tuning.jobs.list_events(finished_job.id, limit=7))[::-1]
    for event in events:
        strictly(FineTuningJobEvent, event.model_copy(update={"data": event.data or {}}))
    messages = [event.message for event in events if event.type == "message"]
    earlier = client.fine_tuning.jobs.checkpoints.list(finished_job.id).data[:0:-1]
    assert messages[:4] == [
        f"Created fine-tuning job: {finished_job.id}",
        f"Validating training file: {training_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
    ]
    assert messages[-2:] == [
        f"New fine-tuned model created: {finished_job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    assert messages[-4:-2] == [
        f"Checkpoint created at step {point.step_number} with Snapshot ID: {point.fine_tuned_model_checkpoint}"
        for point in earlier
    ]
    steps = [event for event in events if event.type == "metrics"]
    data: list[Any] = [event.data for event in steps]
    assert [one["step"] for one in data] == list(range(1, 7))
    assert re.fullmatch(r"Step 1/6: training loss=\d+\.\d\d", steps[0].message)
    assert data[-1]["train_loss"] < data[0]["train_loss"]
    assert data[0]["total_steps"] == 6


def test_checkpoints_have_the_clients_types(client: openai.OpenAI, finished_job: FineTuningJob) -> None:
    points = client.fine_tuning.jobs.checkpoints.list(finished_job.id).data
    for point in points:
        strictly(FineTuningJobCheckpoint, point)
    assert [point.step_number for point in points] == [6, 4, 2]
    assert points[0].fine_tuned_model_checkpoint == finished_job.fine_tuned_model
    assert points[0].metrics.step == points[0].step_number == 6
    assert points[0].metrics.to_dict()["type"] == "supervised"


def test_models_are_listed_and_retrieved(client: openai.OpenAI, finished_job: FineTuningJob) -> None:
    for model in client.models.list():
        strictly(Model, model)
    assert client.models.retrieve(present(finished_job.fine_tuned_model)).owned_by == "personal"
    assert client.models.retrieve("gpt-4o-mini").owned_by == "alias-of:smollm2-135m-instruct"


def test_chat_answers(client: openai.OpenAI, finished_job: FineTuningJob) -> None:
    answer = client.chat.completions.create(
        model=present(finished_job.fine_tuned_model), messages=WEATHER, temperature=0, max_completion_tokens=12
    )
    strictly(ChatCompletion, answer)
    assert answer.model == finished_job.fine_tuned_model
    assert answer.choices[0].message.content
    usage = present(answer.usage)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_stream_says_the_same_as_the_plain_answer(client: openai.OpenAI, finished_job: FineTuningJob) -> None:
    request: Any = {"model": finished_job.fine_tuned_model, "messages": WEATHER, "temperature": 0, "max_tokens": 12}
    plain = client.chat.completions.create(**request)
    chunks = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks:
        strictly(ChatCompletionChunk, chunk)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == plain.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == plain.usage.total_tokens


def test_async_client_streams_two_answers_at_once(server: Server, finished_job: FineTuningJob) -> None:
    async def ask(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(
            model=present(finished_job.fine_tuned_model), messages=WEATHER, temperature=0, max_tokens=8, stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def both() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.key) as client:
            return await asyncio.gather(ask(client), ask(client))

    first, second = asyncio.run(both())
    assert first
    assert first == second


def test_raw_response_has_the_headers(client: openai.OpenAI) -> None:
    raw = client.models.with_raw_response.list()
    assert re.fullmatch(r"req_[0-9a-f]{32}", raw.headers["x-request-id"])
    assert raw.headers["request-id"] == raw.headers["x-request-id"]
    assert int(raw.headers["openai-processing-ms"]) >= 1
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["openai-organization"] == "personal"
    assert present(client.models.list()._request_id).startswith("req_")


def test_cancel_pause_and_resume_take_an_empty_body(client: openai.OpenAI, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini",
        training_file=training_file,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50}}},
        metadata={"run": RUN},
    )
    assert client.fine_tuning.jobs.pause(job.id).status in ("validating_files", "queued")
    assert client.fine_tuning.jobs.resume(job.id).status in ("validating_files", "queued")
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    found = list(client.fine_tuning.jobs.list(metadata={"run": RUN}, limit=1))
    assert [entry.id for entry in found] == [job.id]


def test_preference_pairs_are_trained_as_such(client: openai.OpenAI, preference_job: FineTuningJob) -> None:
    assert preference_job.status == "succeeded", preference_job.error
    strictly(FineTuningJob, preference_job)
    dpo = present(present(preference_job.method).dpo)
    numbers = present(dpo.hyperparameters).to_dict()
    assert (numbers["n_epochs"], numbers["batch_size"], numbers["beta"]) == (1, 5, 0.2)
    point = client.fine_tuning.jobs.checkpoints.list(preference_job.id).data[0]
    assert (point.step_number, point.metrics.to_dict()["type"]) == (2, "dpo")


def test_errors_are_the_clients_classes_with_all_four_fields(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model="gpt-3.5-turbo", training_file="file-unknown", suffix="s" * 65)
    assert (caught.value.param, caught.value.type) == ("suffix", "invalid_request_error")
    assert present(caught.value.request_id).startswith("req_")
    with pytest.raises(openai.NotFoundError) as missing:
        client.fine_tuning.jobs.retrieve("ftjob-unknown")
    assert (missing.value.code, missing.value.param) == ("fine_tune_not_found", "fine_tune_id")
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.vector_stores.list()


def test_job_that_the_client_asks_for_again_is_the_same_job(client: openai.OpenAI, training_file: str) -> None:
    request: Any = {"model": "gpt-3.5-turbo", "training_file": training_file, "suffix": "twice"}
    first = client.fine_tuning.jobs.create(**request)
    again = client.fine_tuning.jobs.create(**request, extra_headers={"x-stainless-retry-count": "1"})
    keyed = [client.fine_tuning.jobs.create(**request, extra_headers={"Idempotency-Key": RUN}) for _ in range(2)]
    for job in (first, keyed[0]):
        client.fine_tuning.jobs.cancel(job.id)
    assert again.id == first.id
    assert keyed[0].id == keyed[1].id != first.id


def test_checkpoint_is_shared_and_withdrawn(client: openai.OpenAI, finished_job: FineTuningJob) -> None:
    permissions = client.fine_tuning.checkpoints.permissions
    name = present(finished_job.fine_tuned_model)
    [made] = permissions.create(name, project_ids=["default"]).data
    strictly(PermissionCreateResponse, made)
    listing = getattr(permissions, "list", permissions.retrieve)  # as openai 1.x calls it
    assert [one.id for one in listing(name, project_id="default").data] == [made.id]
    assert permissions.delete(made.id, fine_tuned_model_checkpoint=name).deleted is True
    assert listing(name).data == []


@pytest.mark.parametrize("streamed", [False, True])
def test_stored_completion_lives_its_life(client: openai.OpenAI, streamed: bool) -> None:
    completions = client.chat.completions
    asked: Any = {
        "model": "gpt-4o-mini",
        "messages": WEATHER,
        "max_tokens": 2,
        "store": True,
        "metadata": {"team": "a"},
    }
    if streamed:
        chat_id = [chunk.id for chunk in completions.create(**asked, stream=True)][-1]
    else:
        chat_id = completions.create(**asked).id
    kept = completions.retrieve(chat_id)
    strictly(ChatCompletion, kept)
    assert (kept.metadata, kept.choices[0].finish_reason) == ({"team": "a"}, "length")
    assert [message.content for message in completions.messages.list(chat_id)] == [WEATHER[0]["content"]]
    completions.update(chat_id, metadata={"team": "b"})
    assert [one.id for one in completions.list(metadata={"team": "b"}, limit=1)] == [chat_id]
    assert completions.delete(chat_id).deleted is True
    with pytest.raises(openai.NotFoundError, match=f"Completion {chat_id} not found"):
        completions.retrieve(chat_id)
