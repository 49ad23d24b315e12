"""How much goes through the model at once, by its shape and the available memory.

The division into micro-batches changes how sums are rounded, so the plan is made once per run and kept on disk:
a resumed run follows it even if the machine has less memory free by then.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tunesmith.families.layout import Shape, token_bytes
from tunesmith.system.checked_json import read_checked, write_checked
from tunesmith.train.core.packing import ENOUGH_TOKENS

MEMORY_SHARE = 0.5  # of what is free now may hold activations; the rest is the allocator's and other processes'
MOST_TOKENS = 8192  # beyond this a larger micro-batch is not faster
LEAST_TOKENS = 256
SMALL_STEP = 384  # tokens; SmolLM2, two cores: 94 tokens 105-150 -> 155-200 GFLOP/s, 787 tokens 180 -> 205
SMALL_COMPILED_STEP = 160  # tokens; below, making weights for the backward pass takes more than a twentieth of a step
TWICE_BYTES = 3 << 30  # of 16-bit weights: beyond it, a second copy takes gigabytes for a twentieth of a small step
BLOCKS_FROM = 2_000  # tokens of a run; 700 where fresh memory is cheap, 2,000 in a virtual machine that never had it


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a run divides its work and lays out its weights."""

    micro_batch_tokens: int
    activation_checkpointing: bool
    blocked_weights: bool = False  # the frozen weights are repacked for the fastest products
    unblocked: str = ""  # why not; in plans of earlier versions it does not stand
    both_directions: bool = True  # once for each direction; compiled layers need only one
    enough_tokens: int = ENOUGH_TOKENS  # a micro-batch ends here where that costs little: see `packing.split`


PLAN = TypeAdapter(MemoryPlan)


def make_plan(config: Shape, element_size: int, longest: int, free_bytes: int, wanted_tokens: int = 0) -> MemoryPlan:
    """Chooses the micro-batch, and whether activations are recomputed.

    `longest`: tokens of the longest example, which cannot be divided. `wanted_tokens`: 0 lets the memory decide.
    """
    room = int(free_bytes * MEMORY_SHARE)
    plain = room // token_bytes(config, element_size, checkpointing=False)
    if plain >= max(longest, min(wanted_tokens, MOST_TOKENS)):
        return MemoryPlan(wanted_tokens or max(LEAST_TOKENS, min(plain, MOST_TOKENS)), False)
    sparse = room // token_bytes(config, element_size, checkpointing=True)
    return MemoryPlan(wanted_tokens or max(LEAST_TOKENS, min(sparse, MOST_TOKENS)), True)


def copies_pay(step_tokens: float, run_tokens: int, *, compiled: bool) -> bool:
    """Whether a repacked copy of the frozen weights saves more than it takes to make."""
    return run_tokens >= BLOCKS_FROM and (compiled or step_tokens <= SMALL_STEP)


def weight_copies(
    step_tokens: float,
    run_tokens: int,
    weight_bytes: int,
    free_bytes: int,
    *,
    compiled: bool = False,
    narrow: bool = False,
) -> int:
    """How many repacked copies of the frozen weights pay: 0, 1, or one a direction.

    In oneDNN's layouts (`layers.frozen_weights`), small products gain a third and large ones a tenth; compiled layers
    gain as much on steps of any size, and compute the other direction's layout themselves where a step is large. Making
    a copy takes as long as it saves on `BLOCKS_FROM` tokens. `step_tokens`: mean of a step, with shared prefixes
    counted in every row. `narrow`: weights in 16 bits, which only compiled layers compute with. One copy is the least
    then: it takes the place of the original.
    """
    if narrow and compiled:
        pays = run_tokens >= BLOCKS_FROM and step_tokens <= SMALL_COMPILED_STEP and weight_bytes <= TWICE_BYTES
        return 2 if pays and free_bytes * MEMORY_SHARE >= 2 * weight_bytes else 1
    if not copies_pay(step_tokens, run_tokens, compiled=compiled):
        return 0
    room = int(free_bytes * MEMORY_SHARE / weight_bytes)
    if compiled and (step_tokens > SMALL_COMPILED_STEP or room < 2):
        return min(room, 1)
    return 2 if room >= 2 else 0


def kept_plan(path: Path, made: MemoryPlan) -> MemoryPlan:
    """The plan in `path`; without one that is whole, `made`, which is written there."""
    kept = read_checked(path)
    if isinstance(kept, dict):
        with suppress(ValidationError):  # of a damaged file of an earlier release, which had no digest
            return PLAN.validate_python(kept)
    write_checked(path, asdict(made))
    return made
