"""The engines that `bench/train.py` measures: each trains a task in a process of its own, and says how that went."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.training.task import BETA, Task

from tunesmith.train.core.packing import TokenRow
from tunesmith.train.protocol.events import Step, parse_events

HELPER = Path(__file__).with_name("peer.py")
OURS = ""  # transformers, PEFT and TRL are in the environment of the tests


@dataclass(frozen=True, slots=True)
class Peer:
    """`environment` is one of .venvs/, or OURS; `options` are its own, on top of what all trainers get."""

    title: str
    environment: str
    kind: str  # of train_peer.py
    options: dict[str, bool]
    method: str = "supervised"


# Besides a trainer's defaults, what may be its best on a CPU: activations kept instead of recomputed; rows packed
# without padding; the reference of DPO computed once. Which is best depends on the rows. bf16 and quantised bases would
# train other numbers; flash attention, Liger and Unsloth's kernels need a GPU.
PEERS = {
    "trl": Peer("TRL, default", OURS, "trl", {}),
    "trl-kept": Peer("TRL, activations kept", OURS, "trl", {"gradient_checkpointing": False}),
    "trl-packed": Peer(
        "TRL, activations kept, packed", OURS, "trl", {"gradient_checkpointing": False, "padding_free": True}
    ),
    "plain": Peer("transformers + PEFT, padded", OURS, "plain", {}),
    "lf": Peer("LLaMA-Factory, default", "llamafactory", "llamafactory", {}),
    "lf-kept": Peer(
        "LLaMA-Factory, activations kept", "llamafactory", "llamafactory", {"disable_gradient_checkpointing": True}
    ),
    "lf-packed": Peer(
        "LLaMA-Factory, activations kept, neat packing",
        "llamafactory",
        "llamafactory",
        {"disable_gradient_checkpointing": True, "neat_packing": True},
    ),
    # With its defaults (reference in each step, activations recomputed) TRL 1.16 fails here with a CheckpointError.
    "trl-dpo": Peer("TRL, reference computed once", OURS, "trl-dpo", {"precompute_ref_log_probs": True}, "dpo"),
    "trl-dpo-kept": Peer(
        "TRL, activations kept, reference computed once",
        OURS,
        "trl-dpo",
        {"gradient_checkpointing": False, "precompute_ref_log_probs": True},
        "dpo",
    ),
}


def python_of(peer: Peer, environments: Path) -> Path:
    """It may not be there."""
    return Path(sys.executable) if peer.environment == OURS else environments / peer.environment / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Result:
    """Of one run: seconds and loss of each step, and of the process as its parent saw it."""

    engine: str
    seconds: list[float]
    losses: list[float]
    peak_bytes: int
    process_seconds: float
    left: float | None = None  # seconds that were said to remain after a tenth of the steps, over those they then took

    def tokens_per_second(self, task: Task) -> float:
        return sum(task.tokens[self.warm]) / self.warm_seconds

    def needed_rate(self, task: Task) -> float:
        """FLOP/s, of what the distinct tokens need."""
        return sum(task.flops[self.warm]) / self.warm_seconds

    @property
    def warm(self) -> slice:
        """The first step warms up and does not count, unless it is the only one."""
        return slice(1, None) if len(self.seconds) > 1 else slice(None)

    @property
    def warm_seconds(self) -> float:
        return sum(self.seconds[self.warm])


def run_tunesmith(task: Task) -> Result:
    spec_file, log = task.folder / "spec.json", task.folder / "events.jsonl"
    task.spec.write(spec_file)
    shutil.rmtree(task.spec.output_dir, ignore_errors=True)
    peak, elapsed = _timed([sys.executable, "-m", "tunesmith.train", str(spec_file)], log)
    steps = [event for event in parse_events(log.read_text("utf-8")) if isinstance(event, Step)]
    rates = [step.tokens_per_second or float("nan") for step in steps]
    seconds = [batch.tokens / rate for batch, rate in zip(task.batches, rates, strict=True)]
    tenth = len(steps) // 10
    left = (steps[tenth - 1].seconds_left or 0.0) / sum(seconds[tenth:]) if tenth else None
    return Result("tunesmith", seconds, [step.train_loss for step in steps], peak, elapsed, left)


def run_peer(task: Task, name: str, environments: Path, adapter_dir: Path) -> Result:
    peer = PEERS[name]
    folder = task.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    result, job_file = folder / "result.json", folder / "job.json"
    job = {
        "kind": peer.kind,
        "base_dir": str(task.spec.base_dir),
        "adapter_dir": str(adapter_dir),
        "rows": [_row(example.rows) for batch in task.batches for example in batch.examples],
        "steps": len(task.batches),
        "batch_size": task.spec.batch_size,
        "save_steps": len(task.batches) // task.spec.n_epochs if task.whole_job else 0,
        "learning_rate": task.spec.learning_rate,
        "beta": BETA,
        "threads": len(os.sched_getaffinity(0)),
        "options": peer.options,
        "scratch": str(folder),
        "result": str(result),
    }
    job_file.write_text(json.dumps(job))
    python = python_of(peer, environments)
    memory, elapsed = _timed([str(python), str(HELPER), str(job_file)], folder / "log")
    found = json.loads(result.read_text())
    return Result(name, found["seconds"], found["losses"], memory, elapsed)


def _timed(command: list[str], log: Path) -> tuple[int, float]:
    """The child's largest resident memory in bytes, and its seconds from start to end. Its output goes to `log`."""
    errors = log.with_suffix(".err")
    began = time.monotonic()
    with log.open("wb") as output, errors.open("wb") as error_output:
        process = subprocess.Popen(command, stdout=output, stderr=error_output)
        _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors.read_text('utf-8', 'replace')[-3000:]}")
    return usage.ru_maxrss * 1024, elapsed


def _row(rows: tuple[TokenRow, ...]) -> dict[str, list[int]]:
    if len(rows) == 1:
        return {"input_ids": [*rows[0].ids], "completion_mask": [int(weight) for weight in rows[0].weights]}
    preferred, other = rows
    start = preferred.weights.index(1.0)
    for one in rows:  # a trainer of pairs learns all of an answer: the rows must have that form
        if one.ids[:start] != preferred.ids[:start] or set(one.weights[start:]) != {1.0} or any(one.weights[:start]):
            raise SystemExit(f"Line {one.line}: the answers of a pair must begin where the prompt ends.")
    return {
        "prompt_ids": [*preferred.ids[:start]],
        "chosen_ids": [*preferred.ids[start:]],
        "rejected_ids": [*other.ids[start:]],
    }
