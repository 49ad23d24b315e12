"""Numbers of 16 bits stay what they are when a GGUF file is converted, and are loaded so."""

import json
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.models.gguf.tiny_files import tiny_model, write_file
from transformers import PreTrainedModel

from tunesmith.models.directory import fingerprint
from tunesmith.models.facts import stored_width
from tunesmith.models.gguf import convert
from tunesmith.models.weights import load_as_stored, load_model

WEIGHTS = "model.safetensors"
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}
WIDTHS = {"F16": "float16", "BF16": "bfloat16"}


def rounded_model(architecture: str, dtype: torch.dtype) -> PreTrainedModel:
    """Its matrices are numbers of `dtype`, its norms are not."""
    model = tiny_model(architecture)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.to(dtype))
    return model


def converted(directory: Path, architecture: str, model: PreTrainedModel, kind: str) -> Path:
    directory.mkdir()
    convert(write_file(directory / "tiny.gguf", architecture, model, GGMLQuantizationType[kind]), directory)
    return directory


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("architecture", ["llama", "qwen3moe", "gemma2"])
def test_matrices_keep_their_bits_and_norms_stay_float32(architecture: str, kind: str, tmp_path: Path) -> None:
    model = rounded_model(architecture, DTYPES[kind])
    narrow = converted(tmp_path / "narrow", architecture, model, kind)
    wide = converted(tmp_path / "wide", architecture, model, "F32")
    found, expected = load_file(narrow / WEIGHTS), load_file(wide / WEIGHTS)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == (DTYPES[kind] if tensor.ndim > 1 else torch.float32)
        assert torch.equal(tensor.float(), expected[name])
    assert fingerprint(narrow) == fingerprint(wide)  # what earlier releases wrote, and adapters were trained on


@pytest.mark.parametrize("kind", DTYPES)
def test_the_bytes_are_those_that_safetensors_writes(kind: str, tmp_path: Path) -> None:
    base = converted(tmp_path / "base", "llama", tiny_model("llama"), kind)
    with safe_open(base / WEIGHTS, "pt") as opened:
        metadata = opened.metadata()
    save_file(load_file(base / WEIGHTS), tmp_path / "theirs", metadata=metadata)
    ours, theirs = ((folder / name).read_bytes() for folder, name in ((base, WEIGHTS), (tmp_path, "theirs")))
    size = 8 + int.from_bytes(ours[:8], "little")
    headers = [list(json.loads(one[8:size]).items()) for one in (ours, theirs)]
    assert headers[0] == headers[1]  # in their order; that of the keys about the file is by chance
    assert ours[:8] + ours[size:] == theirs[:8] + theirs[size:]


@pytest.mark.parametrize("kind", DTYPES)
def test_a_base_of_16_bits_is_loaded_in_them_with_its_norms_as_they_are(kind: str, tmp_path: Path) -> None:
    base = converted(tmp_path / "base", "gemma2", tiny_model("gemma2"), kind)
    assert stored_width(base) == WIDTHS[kind]
    exact, narrow = load_model(base, torch.float32), load_as_stored(base, DTYPES[kind])
    wide = dict(exact.named_parameters())
    for name, parameter in narrow.named_parameters():
        assert parameter.dtype == (DTYPES[kind] if parameter.ndim > 1 else torch.float32)
        assert torch.equal(parameter.float(), wide[name])
    assert narrow.get_memory_footprint() < 0.51 * exact.get_memory_footprint()
