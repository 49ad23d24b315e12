"""Training options that a base or this machine does not have, told without torch.

A job is refused with these sentences when it is created, and checked again before it waits for its turn: the base may
have been fetched meanwhile.

What is not covered: whether enough of the memory is free, which depends on what else runs when the job starts, and
the memory of an accelerator.
"""

from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.families.config_file import read_text_config
from tunesmith.families.lora_layers import PARAM, check_targets, is_target, linear_paths
from tunesmith.families.table import STAND_INS, family_gap
from tunesmith.models.adapters import AdapterManifest
from tunesmith.models.facts import FLOAT32_BYTES, QUANTISED_BYTES, compiled_width, count_text_parameters, stored_width
from tunesmith.models.weights import is_cpu_build, refuse_packed, require_nf4
from tunesmith.settings import Settings, TrainingOptions
from tunesmith.system.cpu import processor
from tunesmith.system.memory import total_memory

STATE_BYTES = 16  # of each weight that is trained: itself, its gradient and AdamW's two moments, all in fp32
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that --max-lora-rank takes
DROPOUT = "lora_dropout is not 0"
DOT_UNITS = ({"avx512_bf16"}, {"amx_bf16", "amx_tile"})  # by the names that Linux has for them
NO_UNIT = "this processor has neither AVX512-BF16 nor AMX"
IN_BLOCKS = "the base's weights are in blocks (quantization)"
NOT_SERVED_SO = f"Setting serve_matmul_precision: {NO_UNIT}, which multiply bfloat16 numbers. Set it to 'float32'."
CARDS = (Path("/proc/driver/nvidia/gpus"), Path("/dev/kfd"))  # NVIDIA's driver, AMD's


def check_options(
    options: TrainingOptions,
    base_dir: Path | None,
    base: str,
    parent: AdapterManifest | None = None,
    *,
    here: bool = True,
) -> None:
    """Raises InvalidRequest for options that this base or machine does not have.

    `base_dir` None: the weights are not here yet. `parent`: the adapter that is trained further. `here`: on this
    machine; a cluster's nodes have what they have.
    """
    if base_dir is not None and here and not _has_card():
        _check_size(options, base_dir, base)
    if options.adapter != "lora":
        return
    if options.quantization == "nf4" and here:
        require_nf4()
    if options.matmul_precision == "bfloat16":
        _refuse_precision(precision_gap(options, base_dir, here=here))
    if base_dir is None:
        return
    _check_numbers(options, base_dir)
    paths = linear_paths(base_dir)
    check_targets(paths, options.target_names, base)
    if parent is not None and parent.target_modules:
        chosen = {path.rpartition(".")[2] for path in paths if is_target(path, options.target_names)}
        _check_same_layers(chosen, set(parent.target_modules))


def _check_numbers(options: TrainingOptions, base_dir: Path) -> None:
    """In which the base's weights are kept."""
    if options.quantization == "nf4":
        refuse_packed(base_dir)
    elif options.quantization != "none":
        refuse_blocks(blocks_gap(options, base_dir), options.quantization)


def _check_size(options: TrainingOptions, base_dir: Path, base: str) -> None:
    if options.adapter == "lora":
        _check_weights(options, base_dir, base)
    else:
        _check_memory(base_dir, base)


def blocks_gap(options: TrainingOptions, base_dir: Path) -> str | None:
    """Why a base is not trained in blocks of 8 or 4 bits; None where it is.

    Compiled layers read such weights, and nothing else does.
    """
    if options.lora_dropout:
        return DROPOUT
    family = str(read_text_config(base_dir).get("model_type"))
    return family_gap(STAND_INS.get(family, family))


def refuse_blocks(gap: str | None, quantization: str) -> None:
    """Raises InvalidRequest where there is a gap."""
    if gap is not None:
        other = "Set 'lora_dropout' to 0, or leave" if gap == DROPOUT else "Leave"
        raise InvalidRequest(
            f"quantization is {quantization!r}, which compiled layers on a CPU compute, and this run has none: {gap}. "
            f"{other} 'quantization' out to train a LoRA beside the base as it is.",
            param="tunesmith.quantization",
            code="quantization_not_available",
        )


def precision_gap(options: TrainingOptions, base_dir: Path | None, *, here: bool) -> str | None:
    """Why a base's weights are not multiplied in bfloat16; None where they are.

    What only the loaded base can tell is said by the job's events, and its products stay exact.
    """
    if options.quantization != "none":
        return IN_BLOCKS
    if options.lora_dropout:
        return DROPOUT
    if here and not _has_unit():
        return NO_UNIT
    if base_dir is None:
        return None
    width = stored_width(base_dir)
    return f"the base's weights are stored in {width}" if width != "bfloat16" else blocks_gap(options, base_dir)


def check_serving(settings: Settings) -> None:
    """Raises InvalidRequest for products that no base here can be served with.

    At a server's start, where the first question would otherwise learn of it.
    """
    if settings.serve_matmul_precision == "float32":
        return
    if settings.serve_weights != "auto":
        raise InvalidRequest(
            f"Setting serve_matmul_precision: 'bfloat16' is for bases that are served so, and serve_weights is "
            f"{settings.serve_weights!r}. Set serve_weights to 'auto', or serve_matmul_precision to 'float32'."
        )
    if not _has_unit():
        raise InvalidRequest(NOT_SERVED_SO)


def _has_unit() -> bool:
    return any(unit <= processor()[1] for unit in DOT_UNITS)


def _refuse_precision(gap: str | None) -> None:
    if gap is not None:
        other = {DROPOUT: "Set 'lora_dropout' to 0, or ", IN_BLOCKS: "Leave 'quantization' out, or "}.get(gap, "")
        cure = f"{other}set 'matmul_precision' to 'float32'"
        raise InvalidRequest(
            "matmul_precision is 'bfloat16', in which a CPU with AVX512-BF16 or AMX multiplies a bfloat16 base beside a"
            f" LoRA; but {gap}. {cure[0].upper()}{cure[1:]}.",
            param="tunesmith.matmul_precision",
            code="matmul_precision_not_available",
        )


def check_remote_rank(options: TrainingOptions, base: str, settings: Settings) -> None:
    """Raises InvalidRequest for an adapter that its base's vLLM would not load."""
    highest = settings.serve_remote_max_rank
    if base not in settings.serve_remote or options.adapter != "lora" or options.lora_rank <= highest:
        return
    enough = next((rank for rank in VLLM_RANKS if rank >= options.lora_rank), VLLM_RANKS[-1])
    raise InvalidRequest(
        f"The adapter's rank would be {options.lora_rank}, but the vLLM server that answers for {base} takes at most"
        f" {highest}: the model would be trained and never answer. Set lora_rank to {highest} or less; or have the"
        f" server started with --max-lora-rank {enough} and the setting serve_remote_max_rank set to {enough}.",
        param="tunesmith.lora_rank",
        code="rank_too_high",
    )


def trains_on_gpu(device: str) -> bool:
    """Whether a trainer with this `train_device` will use a GPU.

    As far as can be told without torch.
    """
    return device.startswith("cuda") or (device == "auto" and _has_card() and not is_cpu_build())


def required_memory(parameters: int) -> int:
    """Bytes that training all weights takes besides the activations."""
    return STATE_BYTES * parameters


def _has_card() -> bool:
    return any(path.exists() for path in CARDS)


def _check_weights(options: TrainingOptions, base_dir: Path, base: str) -> None:
    """A LoRA takes little beside the base, whose weights compiled code reads in 16 bits or in blocks.

    Other code multiplies them in float32, and so it is where there is dropout.
    """
    parameters, there = count_text_parameters(base_dir), total_memory()
    needed = round(QUANTISED_BYTES.get(options.quantization, FLOAT32_BYTES) * parameters)
    plain = options.quantization == "none" and not options.lora_dropout
    if needed > there and plain and compiled_width(base_dir) != "float32":
        needed //= 2
    if needed > there:
        raise InvalidRequest(
            f"Training beside the {parameters:,} weights of {base} takes {needed / 1e9:.1f} GB for them alone; this "
            f"machine has {there / 1e9:.1f} GB. Take a smaller base, a machine with more memory, or the option "
            "'quantization': 'int4'.",
            param="model",
            code="out_of_memory",
        )


def _check_memory(base_dir: Path, base: str) -> None:
    parameters = count_text_parameters(base_dir)
    needed, there = required_memory(parameters), total_memory()
    if needed > there:
        raise InvalidRequest(
            f"Training all {parameters:,} weights of {base} takes {needed / 1e9:.1f} GB for them, their gradients and "
            f"the optimizer, without activations; this machine has {there / 1e9:.1f} GB. Train a LoRA ('adapter': "
            "'lora'), or take a smaller base.",
            param="tunesmith.adapter",
            code="out_of_memory",
        )


def _check_same_layers(chosen: set[str], parent: set[str]) -> None:
    odd = sorted(chosen ^ parent)
    if odd:
        raise InvalidRequest(
            f"lora_targets choose other layers than the tuned model's adapter has (such as {odd[0]}). Leave them out to"
            " go on with its layers, or start from the base.",
            param=PARAM,
            code="invalid_lora_targets",
        )
