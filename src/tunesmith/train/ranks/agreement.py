"""Do all ranks have the same job before them?

Otherwise the sum of their gradients would be nobody's.
"""

from hashlib import sha256

import torch

from tunesmith import __version__
from tunesmith.errors import InvalidRequest, TrainerError
from tunesmith.jsonvalue import JsonObject
from tunesmith.train.ranks.group import Ranks

WORDS = {
    "base": "the base model's files",
    "training_file": "the training file",
    "validation_file": "the validation file",
    "init_adapter_dir": "the tuned model to start from",
    "tunesmith": "the version of tunesmith",
    "torch": "the version of torch",
}


def check_same_job(ranks: Ranks, values: JsonObject) -> None:
    """`values`: what decides the run's result.

    Raises InvalidRequest naming a rank that has others than rank 0, and which.
    """
    mine: JsonObject = {**values, "tunesmith": __version__, "torch": torch.__version__}
    first, *others = (dict(found) if isinstance(found, dict) else {} for found in ranks.of_all(mine))
    for rank, found in enumerate(others, 1):
        names = sorted(name for name in first.keys() | found.keys() if first.get(name) != found.get(name))
        if names:
            what = ", ".join(_told(name, first, found) for name in names)
            raise InvalidRequest(
                f"Rank {rank} trains another job than rank 0: {what} differ. Start all ranks with the same spec.json, "
                "the same files and the same environment.",
                param=names[0],
                code="ranks_differ",
            )


def check_same_values(ranks: Ranks, flat: torch.Tensor, step: int) -> None:
    """Raises TrainerError where the ranks' trained values differ in a bit."""
    if ranks.size == 1:
        return
    digests = ranks.of_all(sha256(flat.detach().cpu().numpy().data).hexdigest())
    odd = next((rank for rank, digest in enumerate(digests) if digest != digests[0]), None)
    if odd is not None:
        raise TrainerError(
            f"After step {step}, rank {odd} has other trained values than rank 0. All ranks have to run on the same "
            "kind of processor or GPU, with the same libraries.",
            code="ranks_differ",
        )


def _told(name: str, first: JsonObject, found: JsonObject) -> str:
    if name in WORDS and name not in ("tunesmith", "torch"):
        return WORDS[name]
    return f"{WORDS.get(name, name)} ({first.get(name)!r} and {found.get(name)!r})"
