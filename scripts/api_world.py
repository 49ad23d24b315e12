"""The application that `api_coverage.py` asks, over a store of its own, with an object for every name in a path."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
from api_samples import ANSWERED, BASE, CHAT, CRITERIA, EVALS, HYPERPARAMETERS, JOBS, ROWS, UPLOADS, WHOLE
from httpx import Client
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import JobOutcome, JobStatus, NewCheckpoint, NewEvent, Store, open_store
from tunesmith.store.evals.rows import NewRun, RunItem
from tunesmith.store.rows import Lease

Json = dict[str, Any]
PERMISSIONS = "/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions"


class World:
    """Every method makes a new object where the operation would use one up."""

    def __init__(self, client: TestClient | Client, store: Store, settings: Settings) -> None:
        self.client = client
        self._store, self._settings = store, settings
        self._evaluated: dict[str, str] | None = None
        self.project = store.projects.create("other").id
        self.rows = self.file()  # of all jobs: they leave it as it is
        self.tuned = self._finished_job()
        self.finished = str(self._jobs("")[0])  # that job's id
        self._failed_job()
        self.chat()
        self._shared()

    def whole(self, path: str) -> Json:
        """A complete request for `path`."""
        if path == JOBS:
            return {"model": BASE, "training_file": self.rows, "validation_file": self.rows}
        if path == f"{UPLOADS}/{{upload_id}}/complete":
            return {"part_ids": []}
        return {"project_ids": [self.project]} if path == PERMISSIONS else dict(WHOLE.get(path, {}))

    def targets(self, method: str, path: str) -> list[str]:
        """URLs of the operation, each of another kind of object; lists and creations have one."""
        if path == EVALS and method == "GET" and self._evaluated is None:
            self._of_eval("GET", f"{EVALS}/{{eval_id}}")  # so that there is something to list
        if "{" not in path:
            return [path]
        if path.startswith(EVALS):
            return [self._of_eval(method, path)]
        name, ids = path[path.index("{") + 1 : path.index("}")], [""]
        if name == "model":
            ids = [self._finished_job()] if method == "DELETE" else [BASE, self.tuned]
        elif name == "fine_tuned_model_checkpoint":
            ids = [self.tuned]
        elif name == "fine_tuning_job_id":
            ids = self._jobs(path.rpartition("/")[2])
        else:
            ids = [{"file_id": self.file, "completion_id": self.chat, "upload_id": self.upload}[name]()]
        urls = [path.replace(f"{{{name}}}", one) for one in ids]
        if path.endswith("{permission_id}"):
            return [url.replace("{permission_id}", self._permission(url)) for url in urls]
        return urls

    def _of_eval(self, method: str, path: str) -> str:
        """Of an eval with a finished run; of new ones where they are deleted, and of one under way to be cancelled."""
        if method == "GET" and self._evaluated is not None:
            names = self._evaluated
        else:
            names = {"eval_id": self.evaluation(CRITERIA if method == "GET" else None)}
            if "{run_id}" in path or method == "GET":
                names["run_id"] = (self._held_run if method == "POST" else self.run)(names["eval_id"])
            if method == "GET":
                runs = f"{EVALS}/{names['eval_id']}/runs"
                names["output_item_id"] = self._first_item(f"{runs}/{names['run_id']}")
                self._done(f"{runs}/{self._gone_run(names['eval_id'])}")
                self._evaluated = names
        for name, one in names.items():
            path = path.replace(f"{{{name}}}", one)
        return path

    def evaluation(self, criteria: list[Json] | None = None) -> str:
        body = self.whole(EVALS)
        body["testing_criteria"] = criteria or body["testing_criteria"]
        return str(self.client.post(EVALS, json=body).json()["id"])

    def run(self, eval_id: str) -> str:
        """A run over two rows, one of which lacks what the model is to be asked."""
        rows = [*ANSWERED["source"]["content"], {"item": {}}]
        source = {**ANSWERED, "source": {**ANSWERED["source"], "content": rows}}
        return str(self.client.post(f"{EVALS}/{eval_id}/runs", json={"data_source": source}).json()["id"])

    def _gone_run(self, eval_id: str) -> str:
        """A run that fails, as its model is gone."""
        new = NewRun(eval_id, "default", None, "gone", "ft:gone", {**ANSWERED, "model": "ft:gone"}, {})
        return self._store.runs.create(new, [RunItem({"answer": "a"})]).id

    def _held_run(self, eval_id: str) -> str:
        """A run that is under way and not answered: we hold it, unless the server works on another one."""
        new = NewRun(eval_id, "default", None, "held", BASE, ANSWERED, {})
        run = self._store.runs.create(new, [RunItem({"answer": "a"})])
        self._store.run_queue.claim("coverage", 600)
        return run.id

    def _first_item(self, run: str) -> str:
        """One with results."""
        self._done(run)
        items = self.client.get(f"{run}/output_items").json()["data"]
        return str(next(one["id"] for one in items if one["results"]))

    def _done(self, run: str) -> None:
        while self.client.get(run).json()["status"] in ("queued", "in_progress"):
            time.sleep(0.05)

    def file(self) -> str:
        files = {"file": ("a.jsonl", ROWS)}
        return str(self.client.post("/v1/files", data={"purpose": "fine-tune"}, files=files).json()["id"])

    def chat(self) -> str:
        return str(self.client.post(CHAT, json=self.whole(CHAT)).json()["id"])

    def upload(self) -> str:
        return str(self.client.post(UPLOADS, json=self.whole(UPLOADS)).json()["id"])

    def part_of(self, url: str) -> str:
        """Sends all of the upload's bytes as one part; its id."""
        parts = url.replace("/complete", "/parts")
        return str(self.client.post(parts, files={"data": ("blob", ROWS)}).json()["id"])

    def permission(self) -> str:
        """Of the first tuned model."""
        return self._permission(f"{PERMISSIONS.replace('{fine_tuned_model_checkpoint}', self.tuned)}/{{permission_id}}")

    def _permission(self, url: str) -> str:
        made = self.client.post(url.removesuffix("/{permission_id}"), json={"project_ids": [self.project]}).json()
        return str(made["data"][0]["id"])

    def _shared(self) -> None:
        url = PERMISSIONS.replace("{fine_tuned_model_checkpoint}", self.tuned)
        self.client.post(url, json={"project_ids": [self.project]})

    def _jobs(self, verb: str) -> list[str]:
        if verb == "cancel":
            return [self.job()]
        if verb in ("pause", "resume"):
            job_id = self.job()
            self._running(job_id)
            if verb == "resume":
                self.client.post(f"{JOBS}/{job_id}/pause")
            return [job_id]
        return [row["id"] for row in self.client.get(JOBS).json()["data"]]

    def job(self) -> str:
        return str(self.client.post(JOBS, json=self.whole(JOBS)).json()["id"])

    def _running(self, job_id: str) -> Lease:
        for status in (JobStatus.VALIDATING, JobStatus.QUEUED):
            lease = self._claim(job_id, status)
            after = JobStatus.QUEUED if status is JobStatus.VALIDATING else JobStatus.RUNNING
            self._store.queue.set_status(lease, after, hyperparameters=HYPERPARAMETERS)
        return lease

    def _claim(self, job_id: str, status: JobStatus) -> Lease:
        while claimed := self._store.queue.claim("coverage", [status], 600):
            if claimed[0].id == job_id:
                return claimed[1]
        raise LookupError(f"The job {job_id} is not {status}.")

    def _finished_job(self) -> str:
        """The tuned model's name. It is listed and shared, never asked, so its adapter is an empty folder."""
        job_id = self.job()
        lease = self._running(job_id)
        numbers: JsonObject = {"step": 1, "train_loss": 1.5, "train_mean_token_accuracy": 0.25}
        self._store.queue.append(lease, [NewEvent("Step 1/1", type="metrics", data=numbers, step=1)], total_steps=1)
        adapter = self._settings.paths.jobs / job_id / "checkpoints" / "step-000001"
        adapter.mkdir(parents=True)
        self._store.queue.add_checkpoint(lease, NewCheckpoint(1, adapter, numbers))
        result = self._store.blobs.write([b"step,train_loss\n1,1.5\n"])
        self._store.queue.finish(lease, JobOutcome(adapter, trained_tokens=1, result=result))
        return str(self.client.get(f"{JOBS}/{job_id}").json()["fine_tuned_model"])

    def _failed_job(self) -> None:
        lease = self._running(self.job())
        self._store.queue.fail(lease, code="invalid_training_file", message="A row is broken.", param="training_file")


@contextmanager
def world() -> Iterator[World]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # stdout is the page's
    with TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), serve_weights="float32")  # no trial of 16 bits, which takes 20 s
        store, pool = open_store(settings), Pool(settings)
        key = store.keys.create("coverage")[0]
        with TestClient(create_app(settings, store, pool), headers={"Authorization": f"Bearer {key}"}) as client:
            yield World(client, store, settings)
        pool.close()
        store.close()
