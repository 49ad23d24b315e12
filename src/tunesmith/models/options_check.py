"""Training options that a base or this machine does not have, told without torch.

A job is refused with these sentences when it is created, and checked again before it waits for its turn: the base may
have been fetched meanwhile.

What is not covered: whether the memory is enough. That depends on what else runs when the job starts.
"""

from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.families.lora_layers import PARAM, check_targets, is_target, linear_paths
from tunesmith.models.adapters import AdapterManifest
from tunesmith.models.weights import refuse_packed, require_nf4
from tunesmith.settings import TrainingOptions


def check_options(
    options: TrainingOptions, base_dir: Path | None, base: str, parent: AdapterManifest | None = None
) -> None:
    """Raises InvalidRequest for options that this base or machine does not have.

    `base_dir` None: the weights are not here yet. `parent`: the adapter that is trained further.
    """
    if options.adapter != "lora":
        return
    if options.quantization == "nf4":
        require_nf4()
    if base_dir is None:
        return
    if options.quantization == "nf4":
        refuse_packed(base_dir)
    paths = linear_paths(base_dir)
    check_targets(paths, options.target_names, base)
    if parent is not None and parent.target_modules:
        chosen = {path.rpartition(".")[2] for path in paths if is_target(path, options.target_names)}
        _check_same_layers(chosen, set(parent.target_modules))


def _check_same_layers(chosen: set[str], parent: set[str]) -> None:
    odd = sorted(chosen ^ parent)
    if odd:
        raise InvalidRequest(
            f"lora_targets choose other layers than the tuned model's adapter has (such as {odd[0]}). Leave them out to"
            " go on with its layers, or start from the base.",
            param=PARAM,
            code="invalid_lora_targets",
        )
