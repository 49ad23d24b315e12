"""A short measurement of how fast this machine trains a base, for estimates.

A real trainer runs on a few made-up rows, as a child process as in a job, so the figures include all that a job costs:
start, steps, saving. Nothing here imports torch.

What is not covered: validation, and the pass over the untrained model that DPO needs.
"""

import json
import random
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tunesmith.errors import TrainerError
from tunesmith.estimate.speed import Benchmark, benchmark_path, of_ranks, read_benchmark, write_benchmark
from tunesmith.families.config_file import read_text_config
from tunesmith.families.layout import token_bytes
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.facts import QUANTISED_BYTES
from tunesmith.render.chat_template import chat_fault
from tunesmith.settings import Quantization, TrainingOptions
from tunesmith.system.python import module_command
from tunesmith.train.core.plan import MOST_TOKENS
from tunesmith.train.hardware import graphics_cards, hardware_name
from tunesmith.train.layouts import layouts, of_job, repacked_layouts
from tunesmith.train.protocol.environment import trainer_environment
from tunesmith.train.protocol.events import Failed, Started, Step, from_json
from tunesmith.train.protocol.spec import TrainSpec

ROW_WORDS = (40, 300, 80, 200, 120, 260, 60, 160, 100, 240)  # a word is one to two tokens
WARM_UP_STEPS = 2
LEAST_JOB_STEPS = 8  # of a job whose speed is kept
ALIKE = 1.5  # steps whose sizes differ by less do not tell a step's cost from its tokens'
TIMEOUT_SECONDS = 600
ELEMENT_BYTES = 4  # of weights and activations, where the trainer does not say: float32
_WORDS = ("river", "stone", "light", "garden", "winter", "paper", "music", "table", "window", "bread", "silver")


@dataclass(frozen=True, slots=True)
class Trainers:
    """The processes that train a job: how many, and the threads of all."""

    threads: int = 0
    ranks: int = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker saw of a job: its first steps.

    The first of them ended `first_at` seconds after the trainer's start.
    """

    steps: Sequence[Step]
    first_at: float
    element_bytes: int = ELEMENT_BYTES  # of a weight, as the trainer said in `Started`
    ranks: int = 1


@dataclass(frozen=True, slots=True)
class _Step:
    tokens: int
    seconds: float
    peak: int
    at: float  # seconds since the trainer's start


def benchmark_of(
    cache: Path,
    base_name: str,
    base_dir: Path,
    *,
    options: TrainingOptions | None = None,
    threads: int = 0,
    measure: bool = True,
) -> Benchmark | None:
    """The figures for this base and machine from the cache.

    If there are none they are measured now, in about half a minute, or None is returned where `measure` is false.
    """
    options = options or TrainingOptions()
    path = benchmark_path(cache, base_name, _conditions(options, threads))
    found = read_benchmark(path)
    if found is not None or not measure:
        return found
    found = measure_speed(base_name, base_dir, options, threads)
    write_benchmark(path, found)
    return found


def record_job(folder: Path, spec: TrainSpec, seen: Seen) -> Benchmark | None:
    """Keeps the speed of a job below `folder`; None where it says too little.

    Preference pairs are computed otherwise, bases in nf4 and rounded products take other times: they say nothing.
    """
    others = spec.options.quantization == "nf4" or spec.options.matmul_precision != "float32"
    if spec.method != "supervised" or others or len(seen.steps) < LEAST_JOB_STEPS:
        return None
    made, before = [], 0
    for step in seen.steps:
        if not (step.tokens_per_second and step.computed_tokens and step.peak_memory_bytes and step.trained_tokens):
            return None
        made.append(_measured(step, before, seen.first_at))
        before = step.trained_tokens
    seconds = seen.first_at + sum(step.seconds for step in made[1:])
    conditions = _conditions(spec.options, spec.threads, seen.ranks)
    found = _fit(spec.base_name, conditions, made, seconds, _token_bytes(spec.base_dir, seen.element_bytes), seen.ranks)
    if _keeps_layouts(spec.options):
        mean = before / len(seen.steps)
        found = replace(found, layouts=layouts(spec.base_dir, mean, mean * seen.steps[0].total_steps))
    write_benchmark(benchmark_path(folder, spec.base_name, conditions), found)
    return found


def job_benchmark(
    folder: Path, base_name: str, options: TrainingOptions, threads: int, ranks: int = 1
) -> Benchmark | None:
    """The figures of the latest such job, as `record_job` kept them; else None."""
    return read_benchmark(benchmark_path(folder, base_name, _conditions(options, threads, ranks)))


def speed_of_ranks(
    one: Benchmark | None, folder: Path, base_name: str, options: TrainingOptions, trainers: Trainers
) -> Benchmark | None:
    """The figures for so many ranks.

    Of the latest such job, else what `one` process's let expect.
    """
    if trainers.ranks == 1:
        return one
    kept = job_benchmark(folder, base_name, options, trainers.threads, trainers.ranks)
    return kept or (one and of_ranks(one, trainers.ranks, cards=bool(graphics_cards())))


def speed_of_job(
    speed: Benchmark | None, base_dir: Path, options: TrainingOptions, step_tokens: float, run_tokens: float
) -> Benchmark | None:
    """The figures with the memory of a job whose steps have so many tokens.

    Each row counts as a whole.
    """
    if speed is None or not _keeps_layouts(options):
        return speed
    return of_job(speed, base_dir, step_tokens, run_tokens)


def measure_speed(
    base_name: str, base_dir: Path, options: TrainingOptions | None = None, threads: int = 0
) -> Benchmark:
    """Trains ten rows of different lengths, one a step.

    Raises TrainerError when the trainer fails.
    """
    options = options or TrainingOptions()
    with tempfile.TemporaryDirectory(prefix="tunesmith-measure-") as folder:
        root = Path(folder)
        rows = root / "rows.jsonl"
        made = _rows(chat=chat_fault(base_dir) is None)
        rows.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
        TrainSpec(
            job_id="measure",
            base_name=base_name,
            base_dir=base_dir,
            training_file=rows,
            output_dir=root / "output",
            n_epochs=1,
            options=_what_matters(options),
            threads=threads,
            checkpoint_seconds=0,
            blocked_weights=True,  # as in any job of small steps that lasts; in these few steps it would not pay
        ).write(root / "spec.json")
        steps, seconds, element_bytes = _run(root / "spec.json")
    found = _fit(base_name, _conditions(options, threads), steps, seconds, _token_bytes(base_dir, element_bytes))
    mean = sum(step.tokens for step in steps) / len(steps)
    return replace(found, layouts=repacked_layouts(base_dir, mean)) if _keeps_layouts(options) else found


def _what_matters(options: TrainingOptions) -> TrainingOptions:
    """The options that speed and memory depend on."""
    return TrainingOptions(
        adapter=options.adapter, lora_rank=options.lora_rank, quantization=_blocks(options) or "none"
    )


def _keeps_layouts(options: TrainingOptions) -> bool:
    """Whether frozen weights are repacked as they are: those beside a LoRA, on a CPU. Blocks have one layout."""
    return options.adapter == "lora" and not graphics_cards() and _blocks(options) is None


def _conditions(options: TrainingOptions, threads: int, ranks: int = 1) -> str:
    trained = f"rank {options.lora_rank}" if options.adapter == "lora" else "all weights"
    trained += f" over {_blocks(options)}" if _blocks(options) else ""
    together = f"{ranks} processes, " if ranks > 1 else ""
    return f"{together}{hardware_name(threads)}, {trained}"


def _blocks(options: TrainingOptions) -> Quantization | None:
    """Blocks of 8 or 4 bits, which take other memory and time."""
    return options.quantization if options.quantization in QUANTISED_BYTES else None


def _rows(*, chat: bool) -> list[JsonObject]:
    choose = random.Random(0).choices
    texts = [" ".join(choose(_WORDS, k=words)) for words in ROW_WORDS]
    if not chat:
        return [{"prompt": text[:40], "completion": text} for text in texts]
    return [
        {"messages": [{"role": "user", "content": text[:40]}, {"role": "assistant", "content": text}]} for text in texts
    ]


def _run(spec: Path) -> tuple[list[_Step], float, int]:
    """The steps, the seconds of the whole run, and the bytes of a weight."""
    began, element_bytes = time.monotonic(), ELEMENT_BYTES
    steps: list[_Step] = []
    environment = {**trainer_environment(), "WORLD_SIZE": "1"}  # whatever this process is part of
    start = partial(subprocess.Popen, module_command("tunesmith.train", str(spec)), env=environment)
    log = spec.with_name("log")
    with log.open("wb") as stderr, start(stdout=subprocess.PIPE, stderr=stderr) as process:
        before = 0
        for line in process.stdout or ():
            event = from_json(json.loads(line))
            if isinstance(event, Failed):
                raise TrainerError(f"The speed of this machine could not be measured: {event.message}")
            if isinstance(event, Started):
                element_bytes = event.element_bytes or element_bytes
            if isinstance(event, Step):
                steps.append(_measured(event, before, time.monotonic() - began))
                before = event.trained_tokens or 0
        if process.wait(TIMEOUT_SECONDS) != 0 or len(steps) <= WARM_UP_STEPS:
            tail = log.read_text(encoding="utf-8", errors="replace")[-300:]
            raise TrainerError(f"The speed of this machine could not be measured: the trainer ended early. {tail}")
    return steps, time.monotonic() - began, element_bytes


def _measured(step: Step, trained_before: int, at: float) -> _Step:
    trained, rate = step.trained_tokens, step.tokens_per_second
    if trained is None or not rate or step.computed_tokens is None or step.peak_memory_bytes is None:
        raise TrainerError(f"The speed of this machine could not be measured: step {step.step} has no measures.")
    return _Step(step.computed_tokens, (trained - trained_before) / rate, step.peak_memory_bytes, at)


def _token_bytes(base_dir: Path, element_bytes: int) -> int:
    """What the trainer's own plan expects of each token; the measured peak gives the rest."""
    return token_bytes(SimpleNamespace(**read_text_config(base_dir)), element_bytes, checkpointing=False)


def _fit(
    base: str, hardware: str, steps: list[_Step], run_seconds: float, bytes_per_token: int, ranks: int = 1
) -> Benchmark:
    """Seconds of a step as a line over its tokens, which `ranks` processes share."""
    warm = steps[WARM_UP_STEPS:]
    tokens = np.asarray([step.tokens for step in warm], float)
    taken = np.asarray([step.seconds for step in warm], float)
    alike = tokens.max() < ALIKE * tokens.min()  # a line through one point has any slope
    per_token, offset = (0.0, 0.0) if alike else np.polyfit(tokens, taken, 1)
    if per_token <= 0 or offset < 0:  # noise on a busy machine: all of the time is the tokens'
        per_token, offset = taken.sum() / tokens.sum(), 0.0
    largest = max(step.tokens for step in steps) // ranks
    return Benchmark(
        base=base,
        hardware=hardware,
        tokens_per_second=float(1 / per_token),
        seconds_per_step=float(offset),
        start_seconds=max(0.0, run_seconds - sum(step.seconds for step in steps)),
        fixed_bytes=max(0, steps[-1].peak - bytes_per_token * largest),
        bytes_per_token=float(bytes_per_token),
        tokens_at_once=MOST_TOKENS,
        measured_at=int(time.time()),
        ranks=ranks,
    )
