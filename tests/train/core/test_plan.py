"""How much goes through the model at once follows from the memory, and stays as it was for a resumed run."""

from pathlib import Path
from types import SimpleNamespace

from tunesmith.families.layout import token_bytes
from tunesmith.train.core.plan import (
    LEAST_TOKENS,
    MOST_TOKENS,
    MemoryPlan,
    kept_plan,
    make_plan,
    weight_copies,
)

SMOLLM2 = SimpleNamespace(
    hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3
)
PLAIN = token_bytes(SMOLLM2, 4, checkpointing=False)


def test_a_token_of_smollm2_keeps_a_megabyte_and_less_when_recomputed() -> None:
    assert 0.75e6 < PLAIN < 1e6
    assert token_bytes(SMOLLM2, 4, checkpointing=True) < PLAIN / 8


def test_plenty_of_memory_gives_the_largest_micro_batch() -> None:
    assert make_plan(SMOLLM2, 4, 600, 64 << 30) == MemoryPlan(MOST_TOKENS, activation_checkpointing=False)


def test_less_memory_gives_smaller_micro_batches() -> None:
    assert make_plan(SMOLLM2, 4, 600, 2 * 1000 * PLAIN) == MemoryPlan(1000, activation_checkpointing=False)


def test_a_row_that_does_not_fit_is_recomputed() -> None:
    plan = make_plan(SMOLLM2, 4, 4000, 2 * 1000 * PLAIN)
    assert plan.activation_checkpointing
    assert plan.micro_batch_tokens > 4000


def test_hardly_any_memory_still_gives_a_plan() -> None:
    assert make_plan(SMOLLM2, 4, 600, 0) == MemoryPlan(LEAST_TOKENS, activation_checkpointing=True)


def copies(step_tokens: float, *, run_tokens: int = 9_460, free_bytes: int = 8 << 30, compiled: bool = False) -> int:
    """For a base of half a GiB; a long run with memory to spare unless told otherwise."""
    return weight_copies(step_tokens, run_tokens, weight_bytes=1 << 29, free_bytes=free_bytes, compiled=compiled)


def test_copies_of_the_weights_are_for_small_steps_of_long_runs_with_memory_to_spare() -> None:
    assert copies(94) == 2
    assert copies(800) == 0
    assert copies(94, run_tokens=400) == 0
    assert copies(94, free_bytes=1 << 30) == 0


def test_compiled_layers_want_one_copy_where_steps_are_large_or_memory_is_short() -> None:
    assert copies(94, compiled=True) == 2
    assert copies(800, compiled=True) == 1
    assert copies(94, free_bytes=1 << 30, compiled=True) == 1
    assert copies(94, free_bytes=1 << 29, compiled=True) == 0


def test_weights_in_16_bits_are_always_repacked_since_nothing_else_computes_with_them() -> None:
    def narrow(step_tokens: float, run_tokens: int, free_bytes: int, weight_bytes: int = 1 << 28) -> int:
        return weight_copies(step_tokens, run_tokens, weight_bytes, free_bytes, compiled=True, narrow=True)

    assert narrow(94, 4000, 1 << 33) == 2
    assert narrow(94, 400, 1 << 33) == 1
    assert narrow(800, 4000, 1 << 33) == 1
    assert narrow(94, 4000, 1 << 27) == 1
    assert narrow(94, 4000, 1 << 36, weight_bytes=3 << 30) == 2
    assert narrow(94, 4000, 1 << 36, weight_bytes=(3 << 30) + 1) == 1  # of 1.7B parameters


def test_a_resumed_run_keeps_the_first_plan(tmp_path: Path) -> None:
    first = kept_plan(tmp_path / "run" / "plan.json", MemoryPlan(1000, False))
    assert kept_plan(tmp_path / "run" / "plan.json", MemoryPlan(500, True)) == first
