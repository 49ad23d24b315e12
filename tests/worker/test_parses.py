"""How often the rows of a file are parsed from its upload to its training, with the real check, worker and reader."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from tests.moderation.servers import scripted
from tests.worker.conftest import WaitFor, Workers, finished

from tunesmith.api.background.file_checks import FileChecks
from tunesmith.render.renderer import Renderer
from tunesmith.settings import Settings
from tunesmith.store import FileRow, JobRow, JobStatus, NewFile, NewJob, Store
from tunesmith.train.core.examples import read_examples
from tunesmith.train.protocol.spec import Method

AUTO = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}

pytestmark = pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)


def words(number: int) -> str:
    """Twenty words, different for each number: rows that are alike are read again to compare them in full."""
    choice = random.Random(number).choice
    return " ".join("".join(choice("abcdefghiklmnorstu") for _ in range(6)) for _ in range(20))


def chat_row(number: int) -> dict[str, object]:
    question = f"What does this mean: {words(number)}?"
    messages: list[dict[str, object]] = [{"role": "user", "content": question}]
    if number % 3:
        return {"messages": [*messages, {"role": "assistant", "content": f"Sunny, {number} degrees."}]}
    call = {"id": f"c{number}", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages += [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": "20"},
        {"role": "assistant", "content": f"It is {number} degrees.", "weight": 1},
    ]
    return {"messages": messages, "tools": [TOOL]}


def preference_row(number: int) -> dict[str, object]:
    return {
        "input": {"messages": [{"role": "user", "content": f"Say it again: {words(number)}"}]},
        "preferred_output": [{"role": "assistant", "content": f"Welcome, guest {number}!"}],
        "non_preferred_output": [{"role": "assistant", "content": f"You again, {number}."}],
    }


def written(rows: list[dict[str, object]]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


class Parses:
    """How often each line was parsed in this process, by whichever module."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._counts: Counter[bytes] = Counter()
        loads = orjson.loads

        def counting(text: bytes | str) -> object:
            self._counts[text.strip() if isinstance(text, bytes) else text.strip().encode()] += 1
            return loads(text)

        monkeypatch.setattr(orjson, "loads", counting)

    def of(self, lines: list[bytes]) -> set[int]:
        return {self._counts[line] for line in lines}


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Parses:
    return Parses(monkeypatch)


@pytest.fixture
def upload(store: Store, store_settings: Settings) -> Callable[[list[bytes]], FileRow]:
    """Uploads lines as the API does, checked before its answer."""

    def create(lines: list[bytes]) -> FileRow:
        blob = store.blobs.write([b"\n".join(lines) + b"\n"])
        row = store.files.create(blob, NewFile("fine-tune", "rows.jsonl"))
        return FileChecks(store, store_settings).submit(row)

    return create


@pytest.fixture
def train(
    store: Store, store_settings: Settings, base_dir: Path, wait_for: WaitFor, script: object
) -> Callable[..., JobRow]:
    """Runs a job on the files to its end."""

    def run(training: FileRow, validation: FileRow | None, method: Method, **changes: object) -> JobRow:
        job = store.jobs.create(
            NewJob(
                model="smollm2-135m-instruct",
                base_model="smollm2-135m-instruct",
                training_file=training.id,
                validation_file=None if validation is None else validation.id,
                organization="acme",
                seed=1,
                hyperparameters=dict(AUTO),
                method={"type": method, method: {"hyperparameters": dict(AUTO)}},
                suffix="bot",
            )
        )
        workers = Workers(store, store_settings.model_copy(update=changes))
        workers.start()
        try:
            return wait_for(job, finished)
        finally:
            workers.stop()

    return run


@pytest.mark.parametrize(("method", "maker"), [("supervised", chat_row), ("dpo", preference_row)])
def test_a_row_is_parsed_twice_from_upload_to_training(
    store: Store,
    renderer: Renderer,
    parses: Parses,
    upload: Callable[[list[bytes]], FileRow],
    train: Callable[..., JobRow],
    method: Method,
    maker: Callable[[int], dict[str, object]],
) -> None:
    lines = written([maker(number) for number in range(12)])
    others = written([maker(number) for number in range(30, 41)])
    training, validation = upload([*lines[:6], b"", *lines[6:]]), upload(others)
    assert (training.status, parses.of(lines)) == ("processed", {0})  # the check is a child's
    job = train(training, validation, method)
    assert (job.status, job.error) == (JobStatus.SUCCEEDED, None)
    assert parses.of([*lines, *others]) == {0}
    for file in (training, validation):
        read_examples(store.blobs.path(file.id), renderer, method, 8192)
    assert parses.of([*lines, *others]) == {1}


def test_a_row_that_may_be_over_the_limit_is_read_once_more(
    parses: Parses, upload: Callable[[list[bytes]], FileRow], train: Callable[..., JobRow], store: Store
) -> None:
    lines = written([chat_row(number) for number in range(12)])
    question, answer = {"role": "user", "content": "Go on."}, {"role": "assistant", "content": "so " * 400}
    long = json.dumps({"messages": [question, answer]}).encode()
    job = train(upload([*lines, long]), None, "supervised", max_example_tokens=300)
    assert job.status is JobStatus.SUCCEEDED
    assert parses.of([long]) == {1}  # here; once more in the child that checks
    messages = [event.message for event in store.jobs.events(job.id, limit=100).data]
    assert "1 row of the training file exceeds 300 tokens; what is beyond is cut off" in messages


def test_a_moderation_service_is_asked_by_the_job_and_not_by_the_upload(
    upload: Callable[[list[bytes]], FileRow], train: Callable[..., JobRow], store: Store
) -> None:
    flagged = {"categories": {"hate": True}, "category_scores": {"hate": 0.9}}
    with scripted(lambda number, body: (200, {"results": [flagged] * len(body["input"])}, {})) as server:
        file = upload(written([chat_row(number) for number in range(12)]))
        assert not server.requests
        job = train(file, None, "supervised", moderation_url=server.url)
        assert server.requests
    (event,) = [one for one in store.jobs.events(job.id, limit=100).data if one.type == "moderation_checks"]
    assert "flagged 12 rows of 12" in event.message
