"""A base from a GGUF file of quantised blocks is served from these: what is computed, and in which memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from numpy.typing import NDArray
from tests.models.gguf.tiny_files import TOKENS, tiny_model, write_file
from transformers import AutoModelForCausalLM

from tunesmith.kernels.vectors import HAS_HALF, Number
from tunesmith.models.directory import pull
from tunesmith.models.facts import block_bytes, count_text_parameters
from tunesmith.models.registry import BaseModel, GgufFile
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.serve.local.loading import load_runner
from tunesmith.serve.local.runner import AnyAdapter
from tunesmith.settings import Settings
from tunesmith.system.atomic_write import sha256_of

pytestmark = pytest.mark.skipif(not HAS_HALF, reason="this processor cannot read float16 numbers, as scales are")
KIND = GGMLQuantizationType
KEYS = {"hidden_size": "embedding_length", "intermediate_size": "feed_forward_length"}
IDS = tuple(int(one) for one in np.random.default_rng(3).integers(3, len(TOKENS), 24))


def q4_k_m(name: str) -> object:
    """As llama.cpp's mix of that name: values and the MLP's last matrix in more bits, in some layers."""
    return KIND.Q6_K if name in ("blk.0.attn_v.weight", "blk.1.ffn_down.weight", "output.weight") else KIND.Q4_K


def partly(name: str) -> object:
    """One line of each layer is not read as it is."""
    return KIND.Q4_1 if "attn_output" in name else KIND.Q8_0


def made(tmp_path: Path, architecture: str, kind: object, **changes: object) -> tuple[Path, Settings]:
    """The directory of a base from a file of such blocks."""
    file, settings = tmp_path / "tiny.gguf", Settings(cache_dir=tmp_path / "cache", data_dir=tmp_path / "data")
    keys: dict[str, object] = {f"{architecture}.{KEYS[name]}": size for name, size in changes.items() if name in KEYS}
    write_file(file, architecture, tiny_model(architecture, **changes), kind, keys)
    return pull(BaseModel("tiny", GgufFile(file, sha256_of(file)), None), settings), settings


def logits(runner: CompiledRunner, ids: tuple[int, ...] = IDS, start: int = 0) -> NDArray[np.float32]:
    chunk: SequenceChunk[AnyAdapter] = SequenceChunk(0, start, ids, None, len(ids))
    return runner.forward([chunk], 2).copy()


def kinds(runner: CompiledRunner) -> set[Number]:
    return {matrix.kind for matrix in runner._matrices}


@pytest.mark.parametrize(
    ("kind", "formats", "same_bits"),
    [
        (KIND.Q8_0, {Number.INT8}, True),
        (KIND.Q5_0, {Number.INT8}, True),
        (KIND.Q4_K, {Number.INT4}, False),
        (KIND.Q6_K, {Number.INT6}, True),
        (KIND.Q5_K, {Number.INT6}, False),
        (q4_k_m, {Number.INT4, Number.INT6}, False),
        (partly, {Number.INT8, Number.FLOAT32}, True),
    ],
    ids=["q8_0", "q5_0", "q4_k", "q6_k", "q5_k", "q4_k_m", "partly"],
)
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_answers_are_those_of_the_dequantised_weights(
    architecture: str, kind: object, formats: set[Number], same_bits: bool, tmp_path: Path
) -> None:
    base, settings = made(tmp_path, architecture, kind)
    runner, form = load_runner(base, settings)
    assert isinstance(runner, CompiledRunner)
    assert (form, kinds(runner)) == ("blocks", formats)
    exact, form = load_runner(base, settings.model_copy(update={"serve_weights": "float32"}))
    assert isinstance(exact, CompiledRunner)
    assert (form, kinds(exact)) == ("float32", {Number.FLOAT32})
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.inference_mode():
        expected = model(torch.tensor([IDS])).logits[0].numpy()
    np.testing.assert_allclose(logits(runner), expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
    for count in (1, 3, 24):  # rows, which take other code
        found, wanted = logits(runner, IDS[:count]), logits(exact, IDS[:count])
        if same_bits:
            np.testing.assert_array_equal(found, wanted)
    assert greedy(runner) == greedy(exact)


def greedy(runner: CompiledRunner) -> list[int]:
    ids, tokens = IDS, list[int]()
    start = 0
    for _ in range(16):
        tokens.append(int(logits(runner, ids, start)[-1].argmax()))
        start, ids = start + len(ids), (tokens[-1],)
    return tokens


@pytest.mark.parametrize(("architecture", "tied"), [("phi3", False), ("qwen3", True), ("qwen2", False)])
def test_fused_tied_and_biased_layers_are_in_blocks_too(architecture: str, tied: bool, tmp_path: Path) -> None:
    base, settings = made(tmp_path, architecture, KIND.Q8_0, tie_word_embeddings=tied)
    runner, form = load_runner(base, settings)
    exact, _ = load_runner(base, settings.model_copy(update={"serve_weights": "float32"}))
    assert isinstance(runner, CompiledRunner)
    assert isinstance(exact, CompiledRunner)
    assert (form, kinds(runner)) == ("blocks", {Number.INT8})
    np.testing.assert_array_equal(logits(runner), logits(exact))
    panels = sum(matrix.weight.nbytes for matrix in runner._matrices)
    assert block_bytes(base, count_text_parameters(base)) == pytest.approx(panels, rel=0.05)


@pytest.mark.parametrize("wanted", ["int8", "int4"])
def test_blocks_are_not_rounded_again(wanted: str, tmp_path: Path) -> None:
    base, settings = made(tmp_path, "llama", KIND.Q8_0)
    runner, form = load_runner(base, settings.model_copy(update={"serve_weights": wanted}))
    assert isinstance(runner, CompiledRunner)
    assert (form, kinds(runner)) == ("blocks", {Number.INT8})


@pytest.mark.parametrize("way", ["most are others", "the file is gone"])
def test_other_bases_are_served_dequantised(way: str, tmp_path: Path) -> None:
    base, settings = made(tmp_path, "llama", KIND.Q4_1 if way == "most are others" else KIND.Q8_0)
    if way == "the file is gone":
        (tmp_path / "tiny.gguf").unlink()
    runner, form = load_runner(base, settings.model_copy(update={"serve_weights": "auto"}))
    assert isinstance(runner, CompiledRunner)
    assert form in ("float32", "float16")
    assert block_bytes(base, count_text_parameters(base)) == 0


CHILD = """
import sys
from pathlib import Path
from tunesmith.serve.local.loading import load_runner
from tunesmith.settings import Settings
import tunesmith.kernels.serving.step
settings = Settings(cache_dir=Path(sys.argv[1]), data_dir=Path(sys.argv[2]), serve_weights=sys.argv[4])
def peak():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])
before = peak()
runner, form = load_runner(Path(sys.argv[3]), settings)
print(form, peak() - before)
"""


def test_there_is_no_float32_copy_in_memory(tmp_path: Path) -> None:
    """Of 14 million weights, 59 MB in float32 and 15 MB in blocks."""
    base, settings = made(tmp_path, "llama", KIND.Q8_0, hidden_size=1024, intermediate_size=2048)
    load_runner(base, settings)  # compiles what is not compiled yet
    parameters = count_text_parameters(base)
    panels = block_bytes(base, parameters)

    def peak(form: str) -> int:
        command = [sys.executable, "-c", CHILD, str(settings.cache_dir), str(settings.data_dir), str(base), form]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert said[0] == ("blocks" if form == "auto" else form)
        return int(said[1])

    assert panels < 1.1 * parameters  # beside 4 in float32; what else a process loads, both load
    assert peak("float32") - peak("auto") > 2.5 * parameters
