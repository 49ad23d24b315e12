"""Tensors of mapped files, beside what safetensors reads."""

import json
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save_file

from tunesmith.models.mapped import INDEX, SINGLE, map_tensors

TENSORS = {
    "full": torch.randn(3, 5),
    "half": torch.randn(4).half(),
    "brain": torch.randn(2, 2, 3).bfloat16(),
    "last": torch.randn(7),
}


def equal(found: numpy.ndarray, tensor: torch.Tensor) -> bool:
    bits = tensor.view(torch.int16).numpy().view(numpy.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
    return found.dtype == bits.dtype and numpy.array_equal(found, bits)


def test_one_file_is_read_as_it_is_stored(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / SINGLE)
    save_file({"other": torch.ones(1)}, tmp_path / "consolidated.safetensors")  # of another format of the same base
    found = map_tensors(tmp_path)
    assert found is not None
    assert set(found) == set(TENSORS)
    assert all(equal(found[name], tensor) for name, tensor in TENSORS.items())
    assert not found["full"].flags.writeable


def test_the_files_of_an_index_are_read_together(tmp_path: Path) -> None:
    files = {name: f"model-{number}.safetensors" for number, name in enumerate(TENSORS)}
    for name, file in files.items():
        save_file({name: TENSORS[name]}, tmp_path / file)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": files}))
    found = map_tensors(tmp_path)
    assert found is not None
    assert all(equal(found[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": {"a": "../outside.safetensors"}}'])
def test_an_index_of_no_use_is_left_to_transformers(tmp_path: Path, index: str) -> None:
    save_file(TENSORS, tmp_path.parent / "outside.safetensors")
    (tmp_path / INDEX).write_text(index)
    assert map_tensors(tmp_path) is None


def test_other_numbers_are_left_to_transformers(tmp_path: Path) -> None:
    save_file({**TENSORS, "whole": torch.ones(2, dtype=torch.int64)}, tmp_path / SINGLE)
    assert map_tensors(tmp_path) is None


def test_a_file_that_is_cut_off_is_not_mapped(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / SINGLE)
    data = (tmp_path / SINGLE).read_bytes()
    (tmp_path / SINGLE).write_bytes(data[:-4])
    assert map_tensors(tmp_path) is None
