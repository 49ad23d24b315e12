"""Converts a GGUF file to a Hugging Face directory with dequantised weights.

It does not use transformers' GGUF loader, which drops the digit pre-tokenizer of SmolLM2 (numbers would get other ids
than the model was trained on) and returns a model that cannot be saved. Any quantisation is read that the gguf library
reads.

What is not covered: architectures other than llama and gemma3, and of llama tokenizers other than SmolLM2's; both are
refused. Source of the key names: the GGUF specification.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.families.support import unsupported
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.base_check import unusable
from tunesmith.models.gguf import gemma3, llama
from tunesmith.models.gguf.metadata import OUTPUT, GgufReader, Metadata, open_gguf
from tunesmith.models.headers.gguf_header import BadGguf, check_header

MOST_SAID = 500  # characters of an error


class Family(Protocol):
    """A module that converts one architecture."""

    def config(self, metadata: Metadata, *, tied: bool) -> JsonObject:
        """config.json of the model."""
        ...

    def tokenizer(self, metadata: Metadata) -> JsonObject:
        """tokenizer.json of the model."""
        ...

    def tokenizer_config(self, metadata: Metadata) -> JsonObject:
        """tokenizer_config.json of the model."""
        ...

    def ends(self, metadata: Metadata) -> JsonValue:
        """The tokens that end an answer."""
        ...

    def tensors(self, reader: GgufReader, metadata: Metadata) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """The weights by transformers' names."""
        ...


ARCHITECTURES: dict[str, Family] = {"llama": llama, "gemma3": gemma3}


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """What a file says of its model before it is converted.

    `config` is the config.json that it will have.
    """

    config: JsonObject
    parameters: int
    licence: str | None


def read_facts(gguf_file: Path, name: str) -> GgufFacts:
    """Reads the keys and the sizes of the tensors only.

    Raises InvalidRequest for a file that is damaged, or whose family is not tuned here.
    """
    with _explaining(gguf_file):
        reader, metadata = open_gguf(gguf_file)
        names = {tensor.name for tensor in reader.tensors}
        config = _family(gguf_file, metadata).config(metadata, tied=OUTPUT not in names)
        values = sum(int(tensor.n_elements) for tensor in reader.tensors)
    reason = unsupported(config)
    if reason is not None:
        raise unusable(name, reason)
    licence = metadata.get("general.license")
    return GgufFacts(config, values, None if licence is None else str(licence))


def convert(gguf_file: Path, directory: Path) -> None:
    """Writes the model into `directory`, in Hugging Face's layout and float32.

    Raises InvalidRequest for a file that is damaged or of another kind.
    """
    with _explaining(gguf_file):
        _convert(gguf_file, directory)


@contextmanager
def _explaining(gguf_file: Path) -> Iterator[None]:
    try:
        check_header(gguf_file)
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        said = str(error) if isinstance(error, BadGguf) else f"its keys and tensors do not fit ({error})"
        raise InvalidRequest(f"{gguf_file.name} cannot be converted: {said[:MOST_SAID]}. Download it again.") from error


def _family(gguf_file: Path, metadata: Metadata) -> Family:
    architecture = metadata.get("general.architecture")
    family = ARCHITECTURES.get(str(architecture))
    if family is None:
        raise InvalidRequest(
            f"{gguf_file.name} has architecture {architecture!r}; only {' and '.join(ARCHITECTURES)} GGUF files can be"
            " converted. Use the model's Hugging Face directory instead."
        )
    return family


def _convert(gguf_file: Path, directory: Path) -> None:
    from safetensors.numpy import save_file

    reader, metadata = open_gguf(gguf_file)
    family = _family(gguf_file, metadata)
    _write_json(directory / "tokenizer.json", family.tokenizer(metadata))
    tensors = dict(family.tensors(reader, metadata))
    _write_json(directory / "config.json", family.config(metadata, tied="lm_head.weight" not in tensors))
    _write_json(directory / "tokenizer_config.json", family.tokenizer_config(metadata))
    _write_json(directory / "generation_config.json", {"eos_token_id": family.ends(metadata)})
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _write_json(path: Path, value: JsonObject) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
