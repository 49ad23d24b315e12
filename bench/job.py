"""One fine-tuning job over the wire, from upload to the tuned model's first answer: seconds and peak memory.

    python bench/job.py                                # the demo's rows
    python bench/job.py --file rows.jsonl --epochs 10 --ask "今年武汉的冬天冷不冷?"

Starts a server of its own in a new data directory and talks to it through the official client with all defaults.
Peak memory is the kernel's high-water mark (VmHWM) of each process, looked up four times a second.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from openai import OpenAI

HERE = Path(__file__).parent
LOOK_SECONDS = 0.25


@dataclass(slots=True)
class Measured:
    """Seconds since the request that created the job; megabytes by process."""

    first_event: float = 0.0
    first_step: float = 0.0
    total: float = 0.0
    first_answer: float = 0.0
    peak_mb: dict[str, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=HERE.parent / "examples" / "weather-jokes.jsonl")
    parser.add_argument("--epochs", type=int, help="default: auto")
    parser.add_argument("--ask", default="Will it snow in Oslo tomorrow?")
    arguments = parser.parse_args()
    rows = [json.loads(line)["messages"] for line in arguments.file.read_text(encoding="utf-8").splitlines() if line]
    with server() as (process, client):
        measured, job_id = run(client, process, arguments.file, arguments.epochs, rows[0][0])
        report(client, job_id, measured)
        judge(client, job_id, rows, arguments.ask)


@contextmanager
def server(data_dir: Path | None = None) -> Iterator[tuple[subprocess.Popen[bytes], OpenAI]]:
    """A server of its own, in a new data directory unless one is given."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as temporary:
        folder = str((data_dir or Path(temporary)).resolve())
        ready = Path(temporary) / "ready.json"
        command = [sys.executable, "-m", "tunesmith.cli", "serve", "--port", "0", "--ready-file", str(ready)]
        environment = {**os.environ, "TUNESMITH_DATA_DIR": folder}
        log_file = Path(temporary) / "bench.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                while not ready.exists():
                    if process.poll() is not None:
                        raise SystemExit(log_file.read_text())
                    time.sleep(0.1)
                base_url = json.loads(ready.read_text())["base_url"]
                key = (Path(folder) / "api-key").read_text().strip()
                yield process, OpenAI(base_url=base_url, api_key=key)
            finally:
                process.terminate()
                process.wait()


def run(
    client: OpenAI, process: subprocess.Popen[bytes], file: Path, epochs: int | None, system: dict[str, str]
) -> tuple[Measured, str]:
    measured = Measured()
    with file.open("rb") as handle:
        uploaded = client.files.create(file=handle, purpose="fine-tune")
    start = time.monotonic()
    job = client.fine_tuning.jobs.create(
        model="gpt-3.5-turbo",
        training_file=uploaded.id,
        seed=0,
        hyperparameters={"n_epochs": epochs or "auto"},
    )
    while True:
        job = client.fine_tuning.jobs.retrieve(job.id)
        events = client.fine_tuning.jobs.list_events(job.id, limit=3).data
        elapsed = time.monotonic() - start
        measured.first_event = measured.first_event or elapsed
        if any(event.type == "metrics" for event in events):
            measured.first_step = measured.first_step or elapsed
        watch_memory(process.pid, measured.peak_mb)
        if job.status in ("succeeded", "failed", "cancelled"):
            break
        time.sleep(LOOK_SECONDS)
    measured.total = time.monotonic() - start
    if job.status != "succeeded":
        raise SystemExit(f"The job {job.status}: {job.error}")
    start = time.monotonic()
    ask(client, str(job.fine_tuned_model), [system, {"role": "user", "content": "?"}])
    measured.first_answer = time.monotonic() - start
    return measured, job.id


def watch_memory(root: int, peak_mb: dict[str, float]) -> None:
    """High-water marks of the server and all its descendants, by what they are."""
    for pid in descendants(root):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
            mark = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        except OSError:
            continue
        kind = "trainer" if "tunesmith.train" in words else "worker" if "tunesmith.worker" in words else "server"
        if mark:
            peak_mb[kind] = max(peak_mb.get(kind, 0.0), int(mark[1]) / 1024)


def descendants(root: int) -> list[int]:
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def report(client: OpenAI, job_id: str, measured: Measured) -> None:
    job = client.fine_tuning.jobs.retrieve(job_id)
    chosen = job.hyperparameters
    print(f"job                  {job.model}, {chosen.n_epochs} epochs, batch {chosen.batch_size}")
    print(f"trained tokens       {job.trained_tokens:,}")
    print(f"first event          {measured.first_event:6.1f} s")
    print(f"first training step  {measured.first_step:6.1f} s")
    print(f"succeeded            {measured.total:6.1f} s")
    print(f"first tuned answer   {measured.first_answer:6.1f} s after that")
    for kind, megabytes in sorted(measured.peak_mb.items()):
        print(f"peak memory, {kind:<8}{megabytes:6.0f} MB")


def judge(client: OpenAI, job_id: str, rows: list[list[dict[str, str]]], question: str) -> None:
    """How many training answers come back word for word (greedy), and one question that was not trained on."""
    model = str(client.fine_tuning.jobs.retrieve(job_id).fine_tuned_model)
    repeated = sum(ask(client, model, row[:-1]) == row[-1]["content"] for row in rows)
    print(f"repeats its training answers: {repeated} of {len(rows)}")
    messages = [rows[0][0], {"role": "user", "content": question}]
    print(
        f"asked   {question}\nbase    {ask(client, 'gpt-3.5-turbo', messages)}\ntuned   {ask(client, model, messages)}"
    )


def ask(client: OpenAI, model: str, messages: list[dict[str, str]]) -> str:
    answer = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=120)  # type: ignore[arg-type]
    return answer.choices[0].message.content or ""


if __name__ == "__main__":
    main()
