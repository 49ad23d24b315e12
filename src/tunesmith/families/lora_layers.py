"""Which linear layers of a base get a LoRA, by the setting `lora_targets`.

Imports no torch.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from tunesmith.errors import InvalidRequest

PARAM = "tunesmith.lora_targets"
SETS = {  # parts of module names: self_attn, attention, attn; mlp, feed_forward
    "all-linear": re.compile(""),
    "attention": re.compile(r"attn|attention"),
    "mlp": re.compile(r"mlp|feed_forward|ffn|moe"),
}

EXPERT = re.compile(r"\.experts\.")
ROUTER = re.compile(r"\.(gate|router|router\.layer)\.weight$")
OTHER_PARTS = re.compile(r"(^|\.)(vision_tower|vision_model|visual|vision_encoder|audio_tower|multi_modal_projector)\.")
PACKED, SCALES = "_blocks", "_scales"  # of experts in the format MXFP4


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


def in_blocks(path: str) -> bool:
    """Whether the module or tensor at `path` belongs to one of the model's layers."""
    return re.search(r"\.\d+\.", path) is not None


def linear_paths(base_dir: Path) -> list[str]:
    """The linear layers inside the blocks, as a base's weight files name them.

    Of its text model only. Experts and the routers that choose them are none: they take no LoRA.
    """
    return [path for path, values in _weights(base_dir).items() if values.linear]


@dataclass(frozen=True, slots=True)
class LoraShare:
    """How many of the weights in the blocks a LoRA reaches."""

    adapted: int
    experts: int  # which it never reaches
    total: int

    @property
    def notice(self) -> str | None:
        """What the user must know: None where there are no experts."""
        if not self.experts:
            return None
        return (
            f"The LoRA reaches {percent(self.adapted / self.total)} of the weights in this base's layers. "
            f"{percent(self.experts / self.total)} are those of its experts, which stay as they are: of a mixture of "
            "experts, attention and what all tokens go through are tuned."
        )


def lora_share(base_dir: Path, targets: Sequence[str]) -> LoraShare:
    """The share of the weights that a LoRA on `targets` reaches, by a base's files."""
    weights = _weights(base_dir)
    return LoraShare(
        adapted=sum(one.values for path, one in weights.items() if one.linear and is_target(path, targets)),
        experts=sum(one.values for one in weights.values() if one.expert),
        total=sum(one.values for one in weights.values()),
    )


@dataclass(frozen=True, slots=True)
class _Weight:
    values: int
    linear: bool = False
    expert: bool = False


def _weights(base_dir: Path) -> dict[str, _Weight]:
    """The matrices in the blocks of the text model, by the path of what has them."""
    found = {}
    for file in sorted(base_dir.glob("*.safetensors")):
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__" and in_blocks(name) and not OTHER_PARTS.search(name):
                weight = _weight(name, tensor["shape"])
                if weight is not None:
                    found[name.removesuffix(".weight")] = weight
    return found


def _weight(name: str, shape: Sequence[int]) -> _Weight | None:
    if name.endswith(PACKED):
        return _Weight(2 * prod(shape), expert=True)  # two values in a byte
    if len(shape) < 2 or name.endswith((".bias", "_bias", SCALES)):
        return None
    if EXPERT.search(name) or (len(shape) == 3 and "conv" not in name):
        return _Weight(prod(shape), expert=True)
    return _Weight(prod(shape), linear=name.endswith(".weight") and len(shape) == 2 and not ROUTER.search(name))


def percent(share: float) -> str:
    """A share in whole percent, below one in tenths."""
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1f} %"
