"""Every method that the official client has for our areas, called once; each answer is held against the client's types.

Run by openai 1.x, 2.x (`test_openai_earlier.py`) and 3.x. A method that a version adds fails the test by its name.
"""

import warnings
from pathlib import Path
from typing import Any

import openai
import pytest
from openai._resource import SyncAPIResource
from openai.types.chat import ChatCompletion, ChatCompletionStoreMessage
from openai.types.fine_tuning import FineTuningJob
from pydantic import BaseModel
from tests.openai_types import accept_null_errors
from tests.servers import wait_until

AREAS = ("files", "uploads", "fine_tuning", "models", "chat", "completions", "moderations", "evals")
LAST = "smollm2-135m-instruct"
ASKED: dict[str, Any] = {"model": LAST, "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 2}
GRADER = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "a",
    "operation": "eq",
}

accept_null_errors()


class Noted:
    """The client, or a part of it: notes which methods are called and is strict about what they answer."""

    def __init__(self, target: object, called: set[str], path: str = "") -> None:
        self._target, self._called, self._path = target, called, path

    def __getattr__(self, name: str) -> Any:
        inner, path = getattr(self._target, name), f"{self._path}.{name}".lstrip(".")
        if isinstance(inner, SyncAPIResource):
            return Noted(inner, self._called, path)
        self._called.add(path)
        return lambda *args, **kwargs: strictly(inner(*args, **kwargs))


def strictly(answer: Any) -> Any:
    """A page is held against the type of its items."""
    if isinstance(answer, BaseModel):
        for one in getattr(answer, "data", None) or [answer]:
            # Kept are the messages that were asked; the client calls all of them the assistant's.
            known = {"role": "assistant"} if isinstance(one, ChatCompletionStoreMessage) else {}
            kind = ChatCompletion if isinstance(one, ChatCompletion) else type(one)  # `parsed` is the client's own
            kind.model_validate({**one.to_dict(), **known}, strict=True)
    return answer


def methods(target: object, path: str) -> set[str]:
    names = [name for name in dir(type(target)) if not name.startswith(("_", "with_"))]
    found: set[str] = set()
    for name in names:
        inner = getattr(target, name)
        found |= methods(inner, f"{path}.{name}") if isinstance(inner, SyncAPIResource) else {f"{path}.{name}"}
    return found


@pytest.fixture(scope="module")
def called() -> set[str]:
    return set()


@pytest.fixture
def noted(client: openai.OpenAI, called: set[str]) -> Noted:
    return Noted(client, called)


def test_files(noted: Noted, training_path: Path) -> None:
    file = noted.files.create(file=training_path, purpose="fine-tune")
    assert noted.files.wait_for_processing(noted.files.retrieve(file.id).id).status == "processed"
    assert file.id in {one.id for one in noted.files.list(purpose="fine-tune", order="desc", limit=5)}
    with pytest.warns(DeprecationWarning, match="content"):
        text = noted.files.retrieve_content(file.id)
    assert text == noted.files.content(file.id).text == training_path.read_text("utf-8")
    assert noted.files.delete(file.id).deleted is True


def test_uploads(noted: Noted, training_path: Path) -> None:
    content = training_path.read_bytes()
    asked = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": len(content), "mime_type": "text/jsonl"}
    upload = noted.uploads.create(**asked)
    part = noted.uploads.parts.create(upload.id, data=content)
    assert noted.uploads.complete(upload.id, part_ids=[part.id]).file.bytes == len(content)
    assert noted.uploads.cancel(noted.uploads.create(**asked).id).status == "cancelled"
    whole = noted.uploads.upload_file_chunked(file=training_path, mime_type="text/jsonl", purpose="fine-tune")
    assert whole.status == "completed"


def test_jobs(noted: Noted, training_file: str) -> None:
    jobs = noted.fine_tuning.jobs
    job = jobs.create(model=LAST, training_file=training_file, seed=1)
    assert jobs.retrieve(jobs.list(limit=1).data[0].id).id == job.id
    assert jobs.pause(job.id).id == jobs.resume(job.id).id == job.id
    assert jobs.cancel(job.id).status == "cancelled"
    assert jobs.list_events(job.id, limit=1).has_more


def test_checkpoints_and_their_permissions(noted: Noted, finished_job: FineTuningJob) -> None:
    permissions, name = noted.fine_tuning.checkpoints.permissions, finished_job.fine_tuned_model
    assert noted.fine_tuning.jobs.checkpoints.list(finished_job.id).data[0].fine_tuned_model_checkpoint == name
    [made] = permissions.create(name, project_ids=["default"]).data
    if hasattr(openai.resources.fine_tuning.checkpoints.Permissions, "list"):
        assert [one.id for one in permissions.list(name)] == [made.id]
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # `list`, before that was there
        assert [one.id for one in permissions.retrieve(name).data] == [made.id]
    assert permissions.delete(made.id, fine_tuned_model_checkpoint=name).deleted is True


def test_graders(noted: Noted) -> None:
    graders = noted.fine_tuning.alpha.graders
    assert graders.validate(grader=GRADER).grader.name == "same"
    assert graders.run(grader=GRADER, model_sample="a").reward == 1.0


def test_models(noted: Noted, finished_job: FineTuningJob) -> None:
    assert noted.models.retrieve(finished_job.fine_tuned_model).id in {one.id for one in noted.models.list()}
    with pytest.raises(openai.BadRequestError, match="cannot be deleted"):
        noted.models.delete(LAST)


def test_chat_and_what_is_stored_of_it(noted: Noted) -> None:
    completions = noted.chat.completions
    made = completions.create(**ASKED, store=True)
    assert made.id in {one.id for one in completions.list(model=LAST, limit=3)}
    assert completions.update(made.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert completions.messages.list(completions.retrieve(made.id).id).data[0].content == "Hi"
    assert completions.delete(made.id).deleted is True


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the client's own type for `parsed`
def test_chat_as_the_helpers_ask(noted: Noted) -> None:
    class Weather(BaseModel):
        rain: bool

    asked = {**ASKED, "max_completion_tokens": 80, "temperature": 0}
    assert isinstance(noted.chat.completions.parse(**asked, response_format=Weather).choices[0].message.parsed, Weather)
    with noted.chat.completions.stream(**ASKED) as stream:
        assert [event for event in stream if event.type == "content.done"]


def test_evals_and_their_runs(noted: Noted) -> None:
    evals, runs = noted.evals, noted.evals.runs
    config = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
    check = {**GRADER, "reference": "{{item.answer}}"}
    near: dict[str, Any] = {
        "type": "text_similarity",
        "name": "near",
        "input": "{{sample.output_text}}",
        "reference": "{{item.answer}}",
    }
    near |= {"evaluation_metric": "fuzzy_match", "pass_threshold": 0.9}
    made = evals.create(name="sums", data_source_config=config, testing_criteria=[check, near], metadata={"a": "b"})
    assert evals.update(made.id, name="other").name == evals.retrieve(made.id).name == "other"
    assert made.id in {one.id for one in evals.list(order_by="updated_at", order="desc", limit=3)}
    rows = [{"item": {"answer": str(number)}, "sample": {"output_text": "1"}} for number in range(3)]
    graded = runs.create(made.id, data_source={"type": "jsonl", "source": {"type": "file_content", "content": rows}})
    template = {"type": "template", "template": [{"role": "user", "content": "Say {{item.answer}}."}]}
    sampling = {"max_completion_tokens": 2, "temperature": 0}
    content = [{"item": row["item"]} for row in rows]
    data: dict[str, Any] = {"type": "completions", "source": {"type": "file_content", "content": content}}
    data |= {"input_messages": template, "model": LAST, "sampling_params": sampling}
    asked = runs.create(made.id, data_source=data, name="asked")
    for run in (graded, asked):
        wait_until(lambda run=run: runs.retrieve(run.id, eval_id=made.id).status == "completed", 60, "a run's end")  # type: ignore[misc]
    counts = runs.retrieve(graded.id, eval_id=made.id).result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (3, 1, 2, 0)
    assert [one.invocation_count for one in runs.retrieve(asked.id, eval_id=made.id).per_model_usage] == [3]
    assert [run.id for run in runs.list(made.id, status="completed", order="desc")] == [asked.id, graded.id]
    items = list(runs.output_items.list(graded.id, eval_id=made.id, status="pass", limit=1))
    [item] = [runs.output_items.retrieve(one.id, eval_id=made.id, run_id=graded.id) for one in items]
    assert (item.datasource_item, item.results[0].score, item.sample.output[0].content) == ({"answer": "1"}, 1.0, "1")
    assert (runs.retrieve(graded.id, eval_id=made.id).error, item.sample.error) == (None, None)
    many = {**data, "source": {"type": "file_content", "content": content * 200}}
    stopped = runs.create(made.id, data_source=many)
    assert runs.cancel(stopped.id, eval_id=made.id).status == "canceled"
    assert runs.delete(stopped.id, eval_id=made.id).run_id == stopped.id
    assert evals.delete(made.id).eval_id == made.id


def test_completions_and_moderations(noted: Noted) -> None:
    answer = noted.completions.create(model=LAST, prompt="Rain", max_tokens=2, echo=True)
    assert answer.choices[0].text.startswith("Rain")
    assert noted.moderations.create(input=["I like rain.", "So do I."]).results[1].flagged is False


def test_no_method_of_the_areas_was_left_out(noted: Noted, called: set[str], request: pytest.FixtureRequest) -> None:
    if len(request.session.items) < 10:
        pytest.skip("only single tests of this file run")
    expected = set.union(*(methods(getattr(noted._target, area), area) for area in AREAS))
    assert expected - called == set()
