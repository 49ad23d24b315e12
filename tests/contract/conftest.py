"""One real server process for all contract tests, one real training job, and the clients that drive them.

Older clients cannot share an environment with today's: each has its own (`tests.environments`). Those whose methods are
today's run the same tests in a pytest of their own, against the server and the jobs of this one (`GIVEN`).
"""

import json
import os
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from tests.environments import environment
from tests.servers import Server, serving, wait_until

TRAIN_SECONDS = 600  # 6 steps of a tiny base take seconds on two idle cores, minutes on busy ones

NUMBERS: Any = {"n_epochs": 3, "batch_size": 5}  # and learning_rate_multiplier "auto"
PREFERENCE_NUMBERS = {"n_epochs": 1, "batch_size": 5, "beta": 0.2}

GIVEN = "TUNESMITH_CONTRACT"  # a variable of the environment: the server and the finished jobs of an outer run

Legacy = Callable[..., Any]  # code, and as keyword arguments values for its names

T = TypeVar("T")


def present(value: T | None) -> T:
    """The value of a field that the client's types say may be absent."""
    assert value is not None
    return value


def given() -> dict[str, str]:
    values: dict[str, str] = json.loads(os.environ.get(GIVEN, "{}"))
    return values


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    if outer := given():
        yield Server(outer["base_url"], outer["key"], Path(outer["data_dir"]))
        return
    directory = tmp_path_factory.mktemp("contract")
    settings = {"bases": request.getfixturevalue("small_base"), "base_learning_rate": "0.005", "poll_seconds": "0.1"}
    with serving(directory, max_file_bytes="3000000", train_nice="0", serve_weights="float32", **settings) as server:
        yield server


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool], float, str], None]:
    return wait_until


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as client:
        yield client


def joke_rows(count: int) -> bytes:
    cities = ["London", "Paris", "Cairo", "Oslo", "Lima", "Tokyo", "Delhi", "Rome", "Quito", "Perth", "Accra", "Hanoi"]
    rows = (
        {
            "messages": [
                {"role": "system", "content": "You answer with a weather joke."},
                {"role": "user", "content": f"How is the weather in {city}?"},
                {"role": "assistant", "content": f"{city} is so windy that the maps have to be held down."},
            ]
        }
        for city in cities[:count]
    )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="session")
def training_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "weather jokes 天气.jsonl"
    path.write_bytes(joke_rows(10))
    return path


@pytest.fixture(scope="session")
def training_file(client: openai.OpenAI, training_path: Path) -> str:
    return given().get("training_file") or client.files.create(file=training_path, purpose="fine-tune").id


@pytest.fixture(scope="session")
def finished_job(client: openai.OpenAI, training_file: str) -> FineTuningJob:
    """Ten rows, three epochs: a model and two earlier checkpoints, which single tests may delete."""
    if outer := given():
        return client.fine_tuning.jobs.retrieve(outer["finished_job"])
    job = client.fine_tuning.jobs.create(
        model="gpt-3.5-turbo", training_file=training_file, suffix="contract", seed=1, hyperparameters=NUMBERS
    )
    job = wait_for_end(client, job.id)
    assert job.status == "succeeded", job.error
    kept = {point.fine_tuned_model_checkpoint for point in client.fine_tuning.jobs.checkpoints.list(job.id)}
    assert len(kept) == 3
    assert kept <= {model.id for model in client.models.list()}, "a checkpoint is a model as soon as the job has ended"
    return job


@pytest.fixture(scope="session")
def preference_job(client: openai.OpenAI) -> FineTuningJob:
    """Ten pairs, one epoch, trained by preference."""
    if outer := given():
        return client.fine_tuning.jobs.retrieve(outer["preference_job"])
    row = {
        "input": {"messages": [{"role": "user", "content": "How is the weather in Rome?"}]},
        "preferred_output": [{"role": "assistant", "content": "Rome is so sunny that the statues wear hats."}],
        "non_preferred_output": [{"role": "assistant", "content": "I cannot say."}],
    }
    file = client.files.create(file=("pairs.jsonl", f"{json.dumps(row)}\n".encode() * 10), purpose="fine-tune")
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": PREFERENCE_NUMBERS}}
    return wait_for_end(
        client, client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=file.id, method=method).id
    )


def wait_for_end(client: openai.OpenAI, job_id: str) -> FineTuningJob:
    def ended() -> bool:
        return client.fine_tuning.jobs.retrieve(job_id).status in ("succeeded", "failed", "cancelled")

    wait_until(ended, TRAIN_SECONDS, f"the end of {job_id}")
    return client.fine_tuning.jobs.retrieve(job_id)


@pytest.fixture
def ended(client: openai.OpenAI) -> Callable[[str], FineTuningJob]:
    return lambda job_id: wait_for_end(client, job_id)


@pytest.fixture(scope="session")
def legacy_python() -> Path:
    """A Python with openai 0.28.1, made once and kept between runs."""
    return environment("openai028", "openai==0.28.1", shared=False)


LEGACY_PRELUDE = """
import json, sys, openai
openai.api_base, openai.api_key = sys.argv[1], sys.argv[2]
assert openai.VERSION == "0.28.1", openai.VERSION
def refusal(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except openai.error.OpenAIError as error:
        return {"class": type(error).__name__, "message": error.user_message, "status": error.http_status,
                "param": getattr(error, "param", None), "code": getattr(error, "code", None),
                "request_id": error.request_id, "body": error.json_body}
    raise SystemExit("nothing was refused")
"""


@pytest.fixture(scope="session")
def legacy(legacy_python: Path, server: Server) -> Legacy:
    """Runs code under openai 0.28.1; what it leaves in `result` comes back."""

    def run(code: str, **given: object) -> Any:
        values = "".join(f"{name} = {value!r}\n" for name, value in given.items())
        script = LEGACY_PRELUDE + values + textwrap.dedent(code) + "\nprint('\\n' + json.dumps(result, default=dict))\n"
        command = [str(legacy_python), "-I", "-c", script, server.base_url, server.key]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
