"""The official client's main path, each request at another server than the one before."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from tests.cluster.machines import Cluster
from tests.contract.conftest import joke_rows
from tests.servers import CLUSTER

from tunesmith.settings import Settings
from tunesmith.store import Store, open_store

QUESTION: Any = [{"role": "user", "content": "How is the weather in Rome?"}]
NUMBERS: Any = {"n_epochs": 1, "batch_size": 4}
JOBS = 6 if os.environ.get(CLUSTER) else 2  # at two workers
SECONDS = 300.0


@pytest.fixture
def store(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A look into the cluster's database."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    opened = open_store(Settings(data_dir=tmp_path / "look"))
    yield opened
    opened.close()


def ended(client: openai.OpenAI, job: FineTuningJob) -> FineTuningJob:
    deadline = time.monotonic() + SECONDS
    while (found := client.fine_tuning.jobs.retrieve(job.id)).status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_a_file_goes_in_at_one_server_and_comes_out_at_the_other(client: openai.OpenAI, cluster: Cluster) -> None:
    before = dict(cluster.proxy.sent)
    rows = joke_rows(12)
    file = client.files.create(file=("rows.jsonl", rows), purpose="fine-tune")
    assert client.files.retrieve(file.id).status == "processed"
    assert [client.files.content(file.id).read() for _ in range(2)] == [rows] * 2
    whole = client.uploads.upload_file_chunked(
        file=rows, filename="b.jsonl", bytes=len(rows), mime_type="text/jsonl", purpose="fine-tune", part_size=700
    )
    assert whole.file is not None
    assert client.files.content(whole.file.id).read() == rows
    asked = [cluster.proxy.sent[address] - before.get(address, 0) for address in cluster.proxy.servers]
    assert min(asked) >= 4
    assert abs(asked[0] - asked[1]) <= 1


def test_jobs_are_each_trained_once_and_their_models_answer_everywhere(
    client: openai.OpenAI, cluster: Cluster, store: Store
) -> None:
    file = client.files.create(file=("rows.jsonl", joke_rows(12)), purpose="fine-tune")

    def create(number: int) -> FineTuningJob:
        """Half of the requests are repetitions of the others, at the same time and at another server."""
        once = {"Idempotency-Key": f"job-{number % JOBS}"}
        return client.fine_tuning.jobs.create(
            model="tiny", training_file=file.id, seed=number % JOBS, hyperparameters=NUMBERS, extra_headers=once
        )

    with ThreadPoolExecutor(2 * JOBS) as pool:
        made = list(pool.map(create, range(2 * JOBS)))
    assert [job.id for job in made[:JOBS]] == [job.id for job in made[JOBS:]]
    assert len({job.id for job in made}) == JOBS
    done = [ended(client, job) for job in made[:JOBS]]
    assert [(job.status, job.error) for job in done] == [("succeeded", None)] * JOBS
    for job in done:
        said = [event.message for event in store.jobs.events(job.id, limit=100).data]
        for once in ("Fine-tuning job started", "The job has successfully completed"):
            assert said.count(once) == 1, said
        assert [data["step"] for data in store.jobs.metrics(job.id)] == [1, 2, 3]
    model = done[0].fine_tuned_model
    assert model is not None
    answers = [
        client.chat.completions.create(model=model, messages=QUESTION, max_tokens=8, temperature=0) for _ in range(4)
    ]
    assert len({(one.choices[0].message.content, one.system_fingerprint) for one in answers}) == 1
    streamed = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=8, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == answers[0].choices[0].message.content
    assert client.models.delete(model).deleted
    for _ in range(2):
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=model, messages=QUESTION)
