"""What a base is, in a few words: parameters, and where its weights come from."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias

from tunesmith.families.blocks.kinds import K_KINDS, KINDS
from tunesmith.families.config_file import read_text_config, text_values
from tunesmith.families.lora_layers import OTHER_PARTS, PACKED, SCALES, lora_share, percent
from tunesmith.families.table import STAND_INS, family_gap
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.directory import is_present, materialise, present_directory
from tunesmith.models.gguf.block_index import block_places
from tunesmith.models.mapped import is_wide_vector
from tunesmith.models.registry import BaseModel, GgufFile, HubRepository, LocalDirectory, PackagedGguf, place_of
from tunesmith.settings import Settings

Stored: TypeAlias = Literal["float32", "float16", "bfloat16"]
FLOAT32_BYTES = 4
STORED_BYTES = {"F32": FLOAT32_BYTES, "F16": 2, "BF16": 2}
QUANTISED_BYTES = {"int8": 17 / 16, "int4": 37 / 64}  # of a weight in blocks of `kernels.blocks`, scales included
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Of a weight in panels of GGUF's blocks, with its share of the scales.
WEIGHT_BYTES = (
    dict.fromkeys(KINDS - K_KINDS, QUANTISED_BYTES["int8"])
    | dict.fromkeys(K_KINDS, 73 / 64)
    | {"Q4_K": QUANTISED_BYTES["int4"]}
)
STORED: dict[str, Stored] = {"F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """`parameters` None: the weights are not on this machine."""

    parameters: int | None
    weights: str


def base_facts(base: BaseModel, settings: Settings) -> BaseFacts:
    """Reads the headers of the base's weight files; downloads and converts nothing.

    Raises InvalidRequest for a directory that is no base.
    """
    match base.source:
        case PackagedGguf(package, _, file):
            bits = "4 bits" if "Q4" in file else "few bits"
            return BaseFacts(base.parameters, f"rounded to {bits} ({file} of {package})")
        case GgufFile(path):
            directory = present_directory(base, settings)
            if directory is None:
                return BaseFacts(None, f"{path}, not converted yet: tunesmith models pull {base.name}")
            return _counted(directory, str(path))
        case LocalDirectory(path):
            return _counted(materialise(base, settings), str(path))
        case HubRepository() as source:
            if not is_present(base, settings):
                return BaseFacts(None, f"not here yet: tunesmith models pull {base.name}")
            return _counted(materialise(base, settings), place_of(source))


def count_parameters(directory: Path) -> Counter[str]:
    """Parameters by their number format, as the headers of the weight files say."""
    counts: Counter[str] = Counter()
    for tensor in _tensors(directory):
        counts[_format(tensor.name, tensor.dtype)] += tensor.values
    return counts


def count_text_parameters(directory: Path) -> int:
    """Parameters of the text model.

    What a base has for images or sound is not trained.
    """
    return sum(tensor.values for tensor in _tensors(directory) if not OTHER_PARTS.search(tensor.name))


def repacked_bytes(directory: Path, copies: int = 1) -> int:
    """What the repacked matrices of the text model take, in the format of the file.

    Linear layers `copies` times and the output layer, which may be the embedding, once. Experts and other matrices
    that are no linear layers' count too.
    """
    sizes = {
        tensor.name: STORED_BYTES.get(tensor.dtype, 0) * tensor.values
        for tensor in _tensors(directory)
        if tensor.name.endswith(".weight") and not OTHER_PARTS.search(tensor.name)
    }
    embedding = sum(size for name, size in sizes.items() if name.endswith(EMBEDDING))
    head = sum(size for name, size in sizes.items() if name.endswith(HEAD))
    return copies * (sum(sizes.values()) - embedding - head) + (head or embedding)


def stored_width(directory: Path) -> Stored:
    """The format of all matrices of the text model.

    float32 unless all are in the same one of 16 bits. Norms and biases may be in float32 beside them, as they are in
    what was converted from GGUF: `models.weights` loads them so.
    """
    formats = {
        tensor.dtype
        for tensor in _tensors(directory)
        if not OTHER_PARTS.search(tensor.name) and not is_wide_vector(tensor.name, tensor.dtype, len(tensor.shape))
    }
    return STORED.get(formats.pop(), "float32") if len(formats) == 1 else "float32"


def compiled_width(directory: Path) -> Stored:
    """The format in which a base is loaded.

    As it is stored where compiled code widens it, else float32.
    """
    return stored_width(directory) if is_compiled(read_family(directory)) else "float32"


def is_compiled(family: str) -> bool:
    """Whether compiled code computes bases of this family."""
    return family_gap(STAND_INS.get(family, family)) is None


def read_family(directory: Path) -> str:
    """The `model_type` of the text model.

    Without transformers where the config says it.
    """
    config: JsonObject = json.loads((directory / "config.json").read_text("utf-8"))
    return str(text_values(config).get("model_type") or read_text_config(directory).get("model_type"))


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: str
    shape: Sequence[int]

    @property
    def values(self) -> int:
        """Those that it stands for: packed ones are two in a byte, and their scales are none."""
        if self.name.endswith(SCALES):
            return 0
        return prod(self.shape) * (2 if self.name.endswith(PACKED) else 1)


def block_bytes(directory: Path, parameters: int) -> int:
    """What a base takes that is served from a GGUF file's blocks; 0 for another.

    `parameters`: all that it has. Of an embedding that is not the output layer too, which stays in its file, few rows
    are read.
    """
    places = block_places(directory)[1]
    inside = sum(place.values for place in places.values())
    if 2 * inside < parameters:
        return 0
    read = [place for name, place in places.items() if name != EMBEDDING or HEAD not in places]
    return round(sum(place.values * WEIGHT_BYTES[place.kind] for place in read)) + FLOAT32_BYTES * (parameters - inside)


def _tensors(directory: Path) -> Iterator[_Tensor]:
    for file in sorted(directory.glob("*.safetensors")):
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield _Tensor(name, str(tensor["dtype"]), tensor["shape"])


def _counted(directory: Path, source: str) -> BaseFacts:
    """The format of most parameters is named."""
    counts = count_parameters(directory)
    share = lora_share(directory, ["all-linear"])
    reached = f"; a LoRA reaches {percent(share.adapted / share.total)} of its layers" if share.experts else ""
    return BaseFacts(counts.total(), f"{counts.most_common(1)[0][0]} ({source}){reached}")


def _format(name: str, dtype: str) -> str:
    return "MXFP4" if name.endswith(PACKED) else dtype
