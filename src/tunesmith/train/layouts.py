"""How many layouts of the frozen weights a run on a CPU keeps, for estimates.

Nothing here imports torch.

A run of small steps keeps one for each direction (`core.plan.weight_copies`), and takes so much more memory than the
run that was measured.
"""

from dataclasses import replace
from pathlib import Path

from tunesmith.estimate.speed import Benchmark
from tunesmith.models.facts import (
    FLOAT32_BYTES,
    compiled_width,
    is_compiled,
    read_family,
    repacked_bytes,
    stored_width,
)
from tunesmith.system.memory import free_memory
from tunesmith.train.core.plan import SMALL_COMPILED_STEP, weight_copies


def layouts(base_dir: Path, step_tokens: float, run_tokens: float) -> int:
    """How many layouts of a base are in memory while a LoRA is trained: 1 or 2.

    `step_tokens`: of the mean step, `run_tokens` of all; each row counts as a whole.
    """
    compiled, narrow = _is_compiled(base_dir), compiled_width(base_dir) != "float32"
    size, free = _linear_bytes(base_dir), free_memory()
    copies = weight_copies(step_tokens, round(run_tokens), size, free, compiled=compiled, narrow=narrow)
    return max(1, copies)  # 0: the weights as they are stored


def repacked_layouts(base_dir: Path, step_tokens: float) -> int:
    """As `layouts`, where the trainer is told to repack."""
    return 1 if _is_compiled(base_dir) and step_tokens > SMALL_COMPILED_STEP else 2


def of_job(measured: Benchmark, base_dir: Path, step_tokens: float, run_tokens: float) -> Benchmark:
    """The measurement with the memory of a job of such steps."""
    more = layouts(base_dir, step_tokens, run_tokens) - measured.layouts
    return replace(measured, fixed_bytes=max(0, measured.fixed_bytes + more * _linear_bytes(base_dir)))


def _is_compiled(base_dir: Path) -> bool:
    return is_compiled(read_family(base_dir))


def _linear_bytes(base_dir: Path) -> int:
    """Of one layout of the linear layers, in the format that a CPU trains with."""
    stored = repacked_bytes(base_dir, 2) - repacked_bytes(base_dir, 1)
    narrow = stored_width(base_dir) != "float32"
    return stored * FLOAT32_BYTES // 2 if narrow and not _is_compiled(base_dir) else stored
