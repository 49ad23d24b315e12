"""Quantised matrices are found in the file that a base was converted from, and only in that file."""

import os
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from safetensors.numpy import load_file
from tests.models.gguf.tiny_files import tiny_model, write_file

from tunesmith.models.directory import materialise, pull
from tunesmith.models.gguf import block_index
from tunesmith.models.gguf.block_index import block_places, know_file, map_blocks
from tunesmith.models.registry import BaseModel, GgufFile
from tunesmith.settings import Settings
from tunesmith.system.atomic_write import sha256_of


def quantised(path: Path, architecture: str = "llama", kind: str = "Q8_0") -> BaseModel:
    """A base of a file with all matrices of this kind."""
    write_file(path, architecture, tiny_model(architecture), GGMLQuantizationType[kind])
    return BaseModel("tiny", GgufFile(path, sha256_of(path)), None)


def in_another_process() -> None:
    block_index._seen.clear()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K", "Q6_K"])
@pytest.mark.parametrize("architecture", ["llama", "phi3", "gemma3"])
def test_the_blocks_are_the_converted_matrices_to_the_bit(
    architecture: str, kind: str, tmp_path: Path, settings: Settings
) -> None:
    made = pull(quantised(tmp_path / "tiny.gguf", architecture, kind), settings)
    matrices = {name: array for name, array in load_file(made / "model.safetensors").items() if array.ndim == 2}
    blocks = map_blocks(made)
    assert blocks.keys() == matrices.keys()
    for name, matrix in blocks.items():
        assert matrix.kind == kind
        outputs = np.random.default_rng(1).permutation(len(matrices[name]))
        np.testing.assert_array_equal(matrix.take(outputs).values(), matrices[name][outputs])


def test_experts_and_numbers_of_16_bits_are_no_blocks(tmp_path: Path, settings: Settings) -> None:
    experts = pull(quantised(tmp_path / "experts.gguf", "qwen3moe"), settings)
    assert not any("experts" in name for name in map_blocks(experts))
    assert map_blocks(pull(quantised(tmp_path / "half.gguf", kind="F16"), settings)) == {}


def test_a_file_that_was_moved_or_touched_is_compared_once(tmp_path: Path, settings: Settings) -> None:
    base = quantised(tmp_path / "tiny.gguf")
    assert isinstance(base.source, GgufFile)
    made, file = pull(base, settings), base.source.path
    os.utime(file, ns=(1, 1))
    in_another_process()
    assert map_blocks(made) == {}
    assert map_blocks(materialise(base, settings)).keys() != set()
    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / "tiny.gguf")
    in_another_process()
    assert block_places(made) == (None, {})
    materialise(BaseModel("tiny", GgufFile(moved, base.source.sha256), None), settings)
    in_another_process()
    assert block_places(made)[0] == moved


@pytest.mark.parametrize("pinned", [True, False], ids=["digest", "any"])
def test_a_file_that_was_changed_is_not_served_from(pinned: bool, tmp_path: Path, settings: Settings) -> None:
    base = quantised(tmp_path / "tiny.gguf")
    assert isinstance(base.source, GgufFile)
    if not pinned:
        base = BaseModel("tiny", GgufFile(base.source.path), None)
    made, file = pull(base, settings), tmp_path / "tiny.gguf"
    assert map_blocks(made) != {}
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert materialise(base, settings) == made
    assert block_places(made) == (None, {})
    in_another_process()
    materialise(base, settings)
    assert block_places(made) == (None, {})
    data[-1] ^= 1
    file.write_bytes(data)
    materialise(base, settings)
    assert block_places(made)[0] == file


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"file": 1}', b"x"], ids=["empty", "object", "other", "bytes"])
def test_what_is_known_of_a_file_is_found_again(damage: bytes, tmp_path: Path, settings: Settings) -> None:
    base = quantised(tmp_path / "tiny.gguf")
    made = pull(base, settings)
    found = block_places(made)
    made.with_name(made.name + block_index.SUFFIX).write_bytes(damage)
    in_another_process()
    assert block_places(made) == (None, {})
    materialise(base, settings)  # so is that of a base that an earlier release converted
    in_another_process()
    assert block_places(made) == found


def test_an_unpinned_file_that_is_newer_than_its_conversion_is_not_served_from(
    tmp_path: Path, settings: Settings
) -> None:
    base = BaseModel("tiny", GgufFile(tmp_path / "tiny.gguf"), None)
    quantised(tmp_path / "tiny.gguf")
    made = pull(base, settings)
    made.with_name(made.name + block_index.SUFFIX).unlink()
    in_another_process()
    (tmp_path / "tiny.gguf").touch()
    assert block_places(materialise(base, settings)) == (None, {})


def test_a_place_beyond_the_file_is_not_mapped(tmp_path: Path, settings: Settings) -> None:
    made, file = pull(quantised(tmp_path / "tiny.gguf"), settings), tmp_path / "tiny.gguf"
    beyond = block_index.BlockPlace("Q8_0", file.stat().st_size, 16, 256, None)
    block_index._seen.clear()
    made.with_name(made.name + block_index.SUFFIX).unlink()
    know_file(made, file, sha256_of(file), lambda: {"model.embed_tokens.weight": beyond})
    assert map_blocks(made) == {}
