"""What a base is, in a few words: parameters, and where its weights come from."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias

from tunesmith.families.config_file import read_text_config
from tunesmith.families.lora_layers import OTHER_PARTS, PACKED, SCALES, lora_share, percent
from tunesmith.families.table import STAND_INS, family_gap
from tunesmith.models.directory import is_present, materialise, present_directory
from tunesmith.models.registry import BaseModel, GgufFile, HubRepository, LocalDirectory, PackagedGguf, place_of
from tunesmith.settings import Settings

Stored: TypeAlias = Literal["float32", "float16", "bfloat16"]
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
    for name, dtype, values in _tensors(directory):
        counts[_format(name, dtype)] += values
    return counts


def count_text_parameters(directory: Path) -> int:
    """Parameters of the text model.

    What a base has for images or sound is not trained.
    """
    return sum(values for name, _, values in _tensors(directory) if not OTHER_PARTS.search(name))


def stored_width(directory: Path) -> Stored:
    """The format of all weights of the text model.

    float32 unless all are in the same one of 16 bits.
    """
    formats = {dtype for name, dtype, _ in _tensors(directory) if not OTHER_PARTS.search(name)}
    return STORED.get(formats.pop(), "float32") if len(formats) == 1 else "float32"


def compiled_width(directory: Path) -> Stored:
    """The format in which a base is loaded.

    As it is stored where compiled code widens it, else float32.
    """
    family = str(read_text_config(directory).get("model_type"))
    compiled = family_gap(STAND_INS.get(family, family)) is None
    return stored_width(directory) if compiled else "float32"


def _tensors(directory: Path) -> Iterator[tuple[str, str, int]]:
    """The name, the number format and the values of each tensor."""
    for file in sorted(directory.glob("*.safetensors")):
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield name, str(tensor["dtype"]), _values(name, tensor["shape"])


def _counted(directory: Path, source: str) -> BaseFacts:
    """The format of most parameters is named."""
    counts = count_parameters(directory)
    share = lora_share(directory, ["all-linear"])
    reached = f"; a LoRA reaches {percent(share.adapted / share.total)} of its layers" if share.experts else ""
    return BaseFacts(counts.total(), f"{counts.most_common(1)[0][0]} ({source}){reached}")


def _format(name: str, dtype: str) -> str:
    return "MXFP4" if name.endswith(PACKED) else dtype


def _values(name: str, shape: Sequence[int]) -> int:
    """The values that a tensor stands for: packed ones are two in a byte, and their scales are none."""
    if name.endswith(SCALES):
        return 0
    return prod(shape) * (2 if name.endswith(PACKED) else 1)
