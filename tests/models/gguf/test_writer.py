"""A conversion writes what safetensors writes, holds little of it in memory, and tells how far it is."""

import tracemalloc
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType
from safetensors.numpy import load_file, save_file
from tests.models.gguf.tiny_files import FILES, tiny_model, write_file

from tunesmith.models.directory import pull
from tunesmith.models.gguf import convert, weights
from tunesmith.models.registry import BaseModel, GgufFile
from tunesmith.settings import Settings

WEIGHTS = "model.safetensors"


@pytest.mark.parametrize("rows", ["one", "all"])
@pytest.mark.parametrize("architecture", FILES)
def test_the_bytes_are_those_that_safetensors_writes(
    architecture: str, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rows == "one":
        monkeypatch.setattr(weights, "BLOCK_VALUES", 1)
    kind = GGMLQuantizationType.Q8_0
    convert(write_file(tmp_path / "tiny.gguf", architecture, tiny_model(architecture), kind), tmp_path)
    save_file(load_file(tmp_path / WEIGHTS), tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / WEIGHTS).read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize(("architecture", "inner"), [("qwen3moe", 256), ("llama", 4096)], ids=["experts", "dense"])
def test_the_memory_of_a_conversion_is_that_of_a_part(
    architecture: str, inner: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "BLOCK_VALUES", 16_384)
    model = tiny_model(architecture, intermediate_size=inner)
    keys: dict[str, object] = {f"{architecture}.feed_forward_length": inner}
    file = write_file(tmp_path / "tiny.gguf", architecture, model, GGMLQuantizationType.Q8_0, keys)
    convert(file, tmp_path)  # imports what it needs
    tracemalloc.start()
    convert(file, tmp_path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < (tmp_path / WEIGHTS).stat().st_size / 5


def test_each_step_is_told_with_the_bytes_that_it_writes(tmp_path: Path) -> None:
    file = write_file(tmp_path / "tiny.gguf", "qwen3", tiny_model("qwen3"))
    steps: list[tuple[str, int | None]] = []
    settings = Settings(cache_dir=tmp_path / "cache")
    base = BaseModel("tiny", GgufFile(file), None)
    made = pull(base, settings, lambda folder, total, step="": steps.append((step, total)))
    (checking, first, second) = steps
    assert (checking, first) == (("Checking the file of", None), ("Converting", None))
    assert second[0] == "Converting"
    size = (made / WEIGHTS).stat().st_size
    assert second[1] is not None
    assert 0 <= size - second[1] < 20_000  # the header
