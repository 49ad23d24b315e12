"""Tunesmith's trainer beside its peers: same base, rows, batches, LoRA values, optimizer; one engine after the other.

    python bench/train.py [--data FOLDER] [--peers .venvs/train-peers/bin/python] [--steps N] [--only NAME]

The peers need their own environment: python -m venv .venvs/train-peers && .venvs/train-peers/bin/pip install
torch==2.13.0 transformers peft trl datasets. Without it only Tunesmith's rows are printed.

Useful tokens are the real tokens of the rows, whatever an engine makes of them. Share of peak: the matrix products
that the distinct tokens need (`needed_flops`) per second of step time, over the best rate of a large matrix product
measured at the start. The first step of each engine warms up and is left out of the rates.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tunesmith.data.render import load_renderer
from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.models.weights import load_model
from tunesmith.settings import Settings
from tunesmith.train.examples import Batch, Sampler, read_examples
from tunesmith.train.lora import attach
from tunesmith.train.packing import pack
from tunesmith.train.spec import LoraSpec, TrainSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.train_rows import write_rows

NAMES = {
    "tunesmith": "Tunesmith",
    "plain": "transformers + PEFT, padded",
    "trl": "TRL, default",
    "trl-kept": "TRL, activations kept",
    "trl-unpadded": "TRL, activations kept, no padding",
}
ENGINES = tuple(NAMES)
# What TRL's default (loss in chunks, activations recomputed, rows padded) can be changed to; which of the two is the
# better depends on the rows.
TRL_OPTIONS: dict[str, dict[str, bool]] = {
    "trl": {},
    "trl-kept": {"gradient_checkpointing": False},
    "trl-unpadded": {"gradient_checkpointing": False, "padding_free": True},
}
RANK, ALPHA = 16, 32.0


@dataclass(frozen=True, slots=True)
class Result:
    engine: str
    tokens_per_second: float
    peak_bytes: int
    process_seconds: float
    losses: list[float]
    share_of_peak: float


@dataclass(frozen=True, slots=True)
class Task:
    """One dataset, and what of it is trained."""

    name: str
    file: Path
    spec: TrainSpec
    batches: list[Batch]
    flops: list[float]  # each batch's `needed_flops`


def needed_flops(batch: Batch, config: dict[str, int]) -> float:
    """2 per weight and token forward, 2 back to the input; LoRA 6 per value; logits of learned tokens forward and back.

    Attention: 4 per head dimension, query and visible key forward, 8 back. Distinct tokens only.
    """
    rows = [row for example in batch.examples for row in example.rows]
    packed = pack(rows)
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    weights = layers * (2 * hidden * queries + 2 * hidden * keys + 3 * hidden * inner)
    low_rank = layers * RANK * (2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + inner))
    visible = sum(position + 1 for position in packed.positions)
    learned = len(packed.learned)
    return (
        packed.length * (4.0 * weights + 6.0 * low_rank)
        + 12.0 * layers * queries * visible
        + 4.0 * learned * hidden * config["vocab_size"]
    )


def matmul_peak(size: int = 2048, rounds: int = 8) -> float:
    """FLOP/s of the best of some large fp32 matrix products."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        torch.mm(one, other)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def make_task(name: str, file: Path, base_dir: Path, scratch: Path, steps: int, batch_size: int) -> Task:
    spec = TrainSpec(
        job_id="bench",
        base_name="bench",
        base_dir=base_dir,
        training_file=file,
        output_dir=scratch / name / "tunesmith",
        n_epochs=1,
        batch_size=batch_size,
        learning_rate=2e-4,
        schedule="constant",
        warmup_ratio=0.0,
        checkpoint_seconds=0,
        lora=LoraSpec(RANK, ALPHA),
    )
    examples = read_examples(file, load_renderer(base_dir), "supervised", None)
    order = Sampler(examples, batch_size, 1, spec.seed).order(0)[: steps * batch_size]
    lines = file.read_text("utf-8").splitlines()
    (scratch / name).mkdir(parents=True)
    part = scratch / name / "rows.jsonl"  # only the rows of the measured steps, so that every engine stops there
    part.write_text("\n".join(lines[examples[i].line - 1] for i in order) + "\n", "utf-8")
    sampler = Sampler(read_examples(part, load_renderer(base_dir), "supervised", None), batch_size, 1, spec.seed)
    config = json.loads((base_dir / "config.json").read_text())
    batches = [*sampler.batches()]
    return Task(name, part, replace(spec, training_file=part), batches, [needed_flops(b, config) for b in batches])


def run_tunesmith(task: Task, peak: float) -> Result:
    spec_file = task.file.with_name("spec.json")
    task.spec.write(spec_file)
    shutil.rmtree(task.spec.output_dir, ignore_errors=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "tunesmith.train", str(spec_file)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    elapsed = time.monotonic() - began
    steps = [event for event in map(json.loads, output.splitlines()) if event["type"] == "step"]
    seconds = [batch.tokens / step["tokens_per_second"] for batch, step in zip(task.batches, steps, strict=True)]
    losses = [step["train_loss"] for step in steps]
    return result(task, "tunesmith", seconds, losses, steps[-1]["peak_memory_bytes"], elapsed, peak)


def run_peer(task: Task, engine: str, python: Path, adapter_dir: Path, peak: float) -> Result:
    folder = task.file.parent
    rows = [example.rows[0] for batch in task.batches for example in batch.examples]
    job = {
        "engine": engine,
        "base_dir": str(task.spec.base_dir),
        "adapter_dir": str(adapter_dir),
        "rows": [{"input_ids": row.ids, "completion_mask": [int(weight) for weight in row.weights]} for row in rows],
        "steps": len(task.batches),
        "batch_size": task.spec.batch_size,
        "learning_rate": task.spec.learning_rate,
        "threads": task.spec.threads,
        "trl_options": TRL_OPTIONS.get(engine, {}),
        "scratch": str(folder / engine),
        "result": str(folder / f"{engine}.json"),
    }
    job_file = folder / f"{engine}-job.json"
    job_file.write_text(json.dumps(job))
    began = time.monotonic()
    helper = Path(__file__).with_name("train_peer.py")
    subprocess.run([str(python), str(helper), str(job_file)], check=True, stdout=subprocess.DEVNULL)
    elapsed = time.monotonic() - began
    found = json.loads(Path(str(job["result"])).read_text())
    return result(task, engine, found["seconds"], found["losses"], found["peak_bytes"], elapsed, peak)


def result(
    task: Task, engine: str, seconds: list[float], losses: list[float], memory: int, elapsed: float, peak: float
) -> Result:
    warm = slice(1, None) if len(seconds) > 1 else slice(None)
    spent = sum(seconds[warm])
    tokens = sum(batch.tokens for batch in task.batches[warm])
    return Result(engine, tokens / spent, memory, elapsed, losses, sum(task.flops[warm]) / spent / peak)


def starting_adapter(base_dir: Path, folder: Path) -> Path:
    """The values that Tunesmith's adapter begins with, for the peers to begin with."""
    model = load_model(base_dir, torch.float32)
    adapter = attach(model, LoraSpec(RANK, ALPHA), 0, model.get_output_embeddings())
    write_adapter(folder, adapter.tensors(), AdapterManifest("bench", "", "", RANK, ALPHA, adapter.target_modules, 0))
    return folder


def print_table(task: Task, results: list[Result]) -> None:
    distinct = sum(pack([r for e in batch.examples for r in e.rows]).length for batch in task.batches)
    tokens = sum(batch.tokens for batch in task.batches)
    size = task.spec.batch_size
    print(f"\n### {task.name}: {len(task.batches)} steps of {size} rows, {tokens} useful tokens, {distinct} distinct\n")
    print("| engine | useful tokens/s | Tunesmith is | peak memory | process | share of peak | losses |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    ours = results[0]
    for one in results:
        ratio = "" if one is ours else f"{ours.tokens_per_second / one.tokens_per_second:.1f} x"
        losses = " ".join(f"{loss:.4f}" for loss in one.losses[:6])
        print(
            f"| {NAMES[one.engine]} | {one.tokens_per_second:.0f} | {ratio} | {one.peak_bytes / 1e9:.1f} GB "
            f"| {one.process_seconds:.0f} s | {one.share_of_peak:.0%} | {losses} |",
            flush=True,
        )
    medians = statistics.median(len(row.ids) for batch in task.batches for e in batch.examples for row in e.rows)
    print(f"\nMedian row: {medians:.0f} tokens.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of *.jsonl chat files; default: rows made from a seed")
    parser.add_argument("--peers", type=Path, default=Path(".venvs/train-peers/bin/python"))
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--only", help="the dataset whose name begins so")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    settings = Settings()
    base_dir = pull(resolve_base("smollm2-135m-instruct", settings), settings)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        data = options.data
        if data is None:
            data = scratch / "rows"
            write_rows(data)
        peak = matmul_peak()
        print(f"Matrix products in fp32: {peak / 1e9:.0f} GFLOP/s at best, {torch.get_num_threads()} threads.")
        adapter_dir = starting_adapter(base_dir, scratch / "adapter")
        for file in sorted(data.glob("*.jsonl")):
            if '"preferred_output"' in file.read_text("utf-8")[:20000] or not file.stem.startswith(options.only or ""):
                continue
            task = make_task(file.stem, file, base_dir, scratch, options.steps, options.batch)
            peers = [engine for engine in options.engines if engine != "tunesmith" and options.peers.exists()]
            results = [run_tunesmith(task, peak)]
            results += [run_peer(task, engine, options.peers.absolute(), adapter_dir, peak) for engine in peers]
            print_table(task, results)


if __name__ == "__main__":
    main()
