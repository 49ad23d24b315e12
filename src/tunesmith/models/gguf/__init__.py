"""Converts a GGUF file to a Hugging Face directory.

Numbers of 16 and 32 bits stay what they are, quantised ones become float32.

It does not use transformers' GGUF loader, which drops the digit pre-tokenizer of SmolLM2 (numbers would get other ids
than the model was trained on) and returns a model that cannot be saved. Any quantisation is read that the gguf library
reads.

What is not covered: architectures other than those of `architectures`, and files in several parts; both are refused.
Source of the key names: the GGUF specification.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.families.support import unsupported
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.base_check import unusable
from tunesmith.models.gguf.architectures import ARCHITECTURES, Architecture
from tunesmith.models.gguf.block_index import Places, places_of
from tunesmith.models.gguf.config import config
from tunesmith.models.gguf.gguf_model import GgufModel
from tunesmith.models.gguf.metadata import open_gguf
from tunesmith.models.gguf.tokenizer import check_readable, check_tokenizer, ends, tokenizer, tokenizer_config
from tunesmith.models.gguf.weights import check_names, weights_of
from tunesmith.models.gguf.writer import file_size, write
from tunesmith.models.headers.gguf_header import BadGguf, check_header

MOST_SAID = 500  # characters of an error


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
        model, architecture = _open(gguf_file)
        check_tokenizer(model)
        check_names(model, architecture)
        found = config(model, architecture)
        values = sum(int(tensor.n_elements) for tensor in model.reader.tensors)
    reason = unsupported(found)
    if reason is not None:
        raise unusable(name, reason)
    licence = model.metadata.get("general.license")
    return GgufFacts(found, values, None if licence is None else str(licence))


def _unasked(size: int) -> None:
    """Nobody wants to know."""


def convert(gguf_file: Path, directory: Path, planned: Callable[[int], None] = _unasked) -> None:
    """Writes the model into `directory`, in Hugging Face's layout.

    What the file has in 16 bits stays so, all else is in float32. `planned` is told how many bytes its weights will
    take. Each is read and written by itself, so the memory that this takes does not grow with the model. Raises
    InvalidRequest for a file that is damaged or of another kind.
    """
    with _explaining(gguf_file):
        _convert(gguf_file, directory, planned)


def find_blocks(gguf_file: Path) -> Places:
    """Where the quantised matrices are that can be served as they are."""
    with _explaining(gguf_file):
        return places_of(weights_of(*_open(gguf_file)))


@contextmanager
def _explaining(gguf_file: Path) -> Iterator[None]:
    try:
        check_header(gguf_file)
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        said = str(error) if isinstance(error, BadGguf) else f"its keys and tensors do not fit ({error})"
        raise InvalidRequest(f"{gguf_file.name} cannot be converted: {said[:MOST_SAID]}. Download it again.") from error


def _open(gguf_file: Path) -> tuple[GgufModel, Architecture]:
    """Raises InvalidRequest for a file whose architecture is not read."""
    reader, metadata = open_gguf(gguf_file)
    name = str(metadata.get("general.architecture"))
    if name not in ARCHITECTURES:
        raise InvalidRequest(
            f"{gguf_file.name} has architecture {name!r}; only GGUF files of {', '.join(ARCHITECTURES)} can be"
            " converted. Use the model's Hugging Face directory instead."
        )
    parts = metadata.integer("split.count", 1)
    if parts > 1:
        raise InvalidRequest(
            f"{gguf_file.name} is one of {parts} parts. Make one file of them first: llama-gguf-split --merge FIRST OUT"
        )
    return GgufModel(name, reader, metadata), ARCHITECTURES[name]


def _convert(gguf_file: Path, directory: Path, planned: Callable[[int], None]) -> None:
    model, architecture = _open(gguf_file)
    found = weights_of(model, architecture)
    planned(file_size(found))
    made = tokenizer(model)
    check_readable(made)
    _write_json(directory / "tokenizer.json", made)
    _write_json(directory / "config.json", config(model, architecture))
    _write_json(directory / "tokenizer_config.json", tokenizer_config(model))
    _write_json(directory / "generation_config.json", {"eos_token_id": ends(model.metadata)})
    write(directory / "model.safetensors", found)


def _write_json(path: Path, value: JsonObject) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
