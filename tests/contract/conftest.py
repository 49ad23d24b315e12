"""One real server process for all contract tests, one real training job, and the clients that drive them.

The 2023 client cannot share an environment with today's: it gets its own under `.venvs/openai028`, made once.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 60  # the base model is converted once per data directory
TRAIN_SECONDS = 600  # 6 steps take about 20 s on two idle cores, minutes on busy ones

NUMBERS = {"n_epochs": 3, "batch_size": 5}  # and learning_rate_multiplier "auto"

Legacy = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Server:
    base_url: str
    key: str
    data_dir: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("contract") / "data"
    ready, log = data_dir.parent / "ready.json", data_dir.parent / "server.log"
    command = [sys.executable, "-m", "tunesmith.cli", "serve", "--port", "0", "--ready-file", str(ready)]
    environment = {
        **os.environ,
        "TUNESMITH_DATA_DIR": str(data_dir),
        "TUNESMITH_MAX_FILE_BYTES": "3000000",
        "TUNESMITH_TRAIN_NICE": "0",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, START_SECONDS, "the server's start")
        assert process.poll() is None, log.read_text("utf-8")
        base_url = json.loads(ready.read_text("utf-8"))["base_url"]
        yield Server(base_url, (data_dir / "api-key").read_text("utf-8").strip(), data_dir)
        assert process.poll() is None, "the server died: " + log.read_text("utf-8")[-3000:]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=40)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s for {what}")
        time.sleep(0.1)


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
    return client.files.create(file=training_path, purpose="fine-tune").id


@pytest.fixture(scope="session")
def finished_job(client: openai.OpenAI, training_file: str) -> FineTuningJob:
    """Ten rows, three epochs: a model and two earlier checkpoints, which single tests may delete."""
    job = client.fine_tuning.jobs.create(
        model="gpt-3.5-turbo", training_file=training_file, suffix="contract", seed=1, hyperparameters=NUMBERS
    )
    job = wait_for_end(client, job.id)
    assert job.status == "succeeded", job.error
    kept = {point.fine_tuned_model_checkpoint for point in client.fine_tuning.jobs.checkpoints.list(job.id)}
    assert len(kept) == 3
    assert kept <= {model.id for model in client.models.list()}, "a checkpoint is a model as soon as the job has ended"
    return job


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
    directory = REPOSITORY / ".venvs" / "openai028"
    python, done = directory / "bin" / "python", directory / ".complete"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "openai==0.28.1"], check=True)
        done.touch()
    return python


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
