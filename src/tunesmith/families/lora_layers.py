"""Which linear layers of a base get a LoRA, by the setting `lora_targets`.

Imports no torch.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tunesmith.errors import InvalidRequest

PARAM = "tunesmith.lora_targets"
SETS = {  # parts of module names: self_attn, attention, attn; mlp, feed_forward
    "all-linear": re.compile(""),
    "attention": re.compile(r"attn|attention"),
    "mlp": re.compile(r"mlp|feed_forward|ffn|moe"),
}


def is_target(path: str, targets: Sequence[str]) -> bool:
    """Whether the linear layer at `path` is one of `targets`.

    `path` is such as `model.layers.0.self_attn.q_proj`, and never the output head's.
    """
    parents, _, name = path.rpartition(".")
    return any(SETS[target].search(parents) if target in SETS else name == target for target in targets)


def check_targets(paths: Iterable[str], targets: Sequence[str], base: str = "this base") -> None:
    """Raises InvalidRequest naming each target that the base lacks, and its layers."""
    layers = list(paths)
    unknown = [target for target in targets if not any(is_target(path, [target]) for path in layers)]
    if unknown:
        names = sorted({path.rpartition(".")[2] for path in layers})
        raise InvalidRequest(
            f"lora_targets has {', '.join(map(repr, unknown))}, but the blocks of {base} have no such layer. They "
            f"have: {', '.join(names) or 'none'}. Take some of these, or 'all-linear'.",
            param=PARAM,
            code="invalid_lora_targets",
        )


def linear_paths(base_dir: Path) -> list[str]:
    """The linear layers inside the blocks of a base, as its weight files name them."""
    found = []
    for file in sorted(base_dir.glob("*.safetensors")):
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        found += [
            name.removesuffix(".weight")
            for name, tensor in header.items()
            if name.endswith(".weight") and re.search(r"\.\d+\.", name) and len(tensor["shape"]) == 2
        ]
    return found
