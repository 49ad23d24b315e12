"""A data directory of an earlier version: opened by this one, its job goes on and its models answer.

`make_earlier_data.py` made it. Its paths name a place that is not here, as after a restore from a backup.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file
from tests.acceptance.earlier_data import ARCHIVE, UPLOADED, processor
from tests.servers import Server, serving, wait_until

from tunesmith.store import JobFiles
from tunesmith.train.fingerprint import spec_fingerprint
from tunesmith.train.protocol.spec import TrainSpec

Json = dict[str, Any]
STEPS = 10
SECONDS = 180  # the four steps that are left take two; the rest is for a busy machine


@dataclass(frozen=True, slots=True)
class Expected:
    """What the earlier version left; see `make_earlier_data.main`."""

    finished: str
    killed: str
    last_step: int
    attempt: int
    upload: str
    parts: list[str]
    adapter_sha256: str
    processor: str
    torch: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The earlier data, served by this version."""

    server: Server
    expected: Expected
    progress: Json  # of the killed job, as it was found

    def get(self, path: str) -> Json:
        answer = httpx.get(self.server.base_url + path, headers=self.headers, timeout=60)
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found

    def post(self, path: str, body: Json) -> Json:
        answer = httpx.post(self.server.base_url + path, json=body, headers=self.headers, timeout=60)
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.server.key}"}

    def files(self, job_id: str) -> JobFiles:
        return JobFiles(self.server.data_dir / "jobs", job_id)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(directory, filter="data")
    return directory


@pytest.fixture(scope="module")
def expected(unpacked: Path) -> Expected:
    return Expected(**json.loads((unpacked / "expected.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def opened(unpacked: Path, expected: Expected, base_dir: Path) -> Iterator[Opened]:
    output = JobFiles(unpacked / "data" / "jobs", expected.killed).output
    [state] = output.glob("progress/step-*/state.json")
    progress = json.loads(state.read_text("utf-8"))
    # Without the trial of 16 bits, which tests/serve has: it would take the first chat 10 s.
    with serving(unpacked, train_threads="1", poll_seconds="0.1", serve_weights="float32") as server:
        yield Opened(server, expected, progress)


@pytest.fixture(scope="module")
def done(opened: Opened) -> Json:
    """The killed job, once this version's worker has finished it."""
    path = f"/fine_tuning/jobs/{opened.expected.killed}"
    wait_until(lambda: opened.get(path)["status"] in ("succeeded", "failed"), SECONDS, "the job's end")
    return opened.get(path)


def test_an_earlier_spec_is_read_and_decides_the_same_result(
    unpacked: Path, expected: Expected, base_dir: Path, opened: Opened, tmp_path: Path
) -> None:
    text = JobFiles(unpacked / "data" / "jobs", expected.killed).spec(expected.attempt).read_text("utf-8")
    path = tmp_path / "spec.json"
    path.write_text(text.replace("@DATA@", str(unpacked / "data")).replace("@BASE@", str(base_dir)), "utf-8")
    spec = TrainSpec.read(path)
    assert spec.job_id == expected.killed
    assert spec_fingerprint(spec) == opened.progress["fingerprint"]


def test_the_killed_job_goes_on_from_its_progress(opened: Opened, done: Json) -> None:
    expected = opened.expected
    assert (done["status"], done["error"]) == ("succeeded", None)
    assert 0 < expected.last_step < STEPS
    lines = opened.files(expected.killed).events(expected.attempt + 1).read_text("utf-8").splitlines()
    assert json.loads(lines[0])["type"] == "started"
    assert json.loads(lines[0])["resumed_from_step"] == opened.progress["step"]
    events = opened.get(f"/fine_tuning/jobs/{expected.killed}/events?limit=100")["data"]
    assert isinstance(events, list)
    assert [event["data"]["step"] for event in events if event["type"] == "metrics"] == list(range(STEPS, 0, -1))
    assert f"Training goes on after an interruption (attempt {expected.attempt + 1})" in [
        event["message"] for event in events
    ]


def test_its_adapter_is_that_of_an_undisturbed_run(opened: Opened, done: Json) -> None:
    """To the bit on a processor of the kind that the earlier version ran on, with its torch; close to it elsewhere."""
    assert done["status"] == "succeeded"
    expected = opened.expected
    path = opened.files(expected.killed).output / "adapter" / "adapter_model.safetensors"
    undisturbed = opened.files(expected.finished).output / "adapter" / "adapter_model.safetensors"
    assert sha256(undisturbed.read_bytes()).hexdigest() == expected.adapter_sha256
    if (processor(), torch.__version__) == (expected.processor, expected.torch):
        assert sha256(path.read_bytes()).hexdigest() == expected.adapter_sha256
    mine, theirs = load_file(path), load_file(undisturbed)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-2, atol=1e-4)


def test_the_models_of_both_jobs_answer(opened: Opened, done: Json) -> None:
    finished = opened.get(f"/fine_tuning/jobs/{opened.expected.finished}")
    for model in (finished["fine_tuned_model"], done["fine_tuned_model"]):
        asked = {"model": model, "messages": [{"role": "user", "content": "rain?"}], "max_tokens": 4, "temperature": 0}
        answer = opened.post("/chat/completions", asked)
        assert answer["model"] == model
        [choice] = answer["choices"]
        assert choice["message"]["content"]


def test_a_checkpoint_of_each_job_is_listed(opened: Opened, done: Json) -> None:
    for job_id in (opened.expected.finished, opened.expected.killed):
        found = opened.get(f"/fine_tuning/jobs/{job_id}/checkpoints")["data"]
        assert [one["step_number"] for one in found] == [10, 5]


def test_an_upload_in_parts_is_completed(opened: Opened) -> None:
    expected = opened.expected
    upload = opened.post(f"/uploads/{expected.upload}/complete", {"part_ids": expected.parts})
    file_id = upload["file"]["id"]
    content = httpx.get(f"{opened.server.base_url}/files/{file_id}/content", headers=opened.headers)
    assert content.content == b"".join(UPLOADED)
