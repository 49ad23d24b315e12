"""GGUF files, read back by the reader that pulls bases (`models.gguf`) and by the `gguf` package.

`bench/exports/exported.py` has llama.cpp answer from them.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from tests.export.conftest import quietly, with_adapter, with_tokenizer
from tests.families.zoo import ZOO, Tiny, write
from tests.render.bases import VOCABULARY
from transformers import AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tunesmith.errors import InvalidRequest
from tunesmith.export.architectures import read_shape, rope_factors
from tunesmith.export.formats import export
from tunesmith.export.gguf_file import interleave, plan_gguf, separate
from tunesmith.export.gguf_tokenizer import read_tokenizer
from tunesmith.export.kinds import Width
from tunesmith.export.tuned_model import TunedModel
from tunesmith.export.verify import load_exported
from tunesmith.models.gguf import convert

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def test_file_reads_as_the_merged_model_with_tokenizer_and_template(tuned: TunedModel, tmp_path: Path) -> None:
    file = export(tuned, "gguf", tmp_path / "gguf", quietly).gguf
    merged = export(tuned, "safetensors", tmp_path / "merged", quietly).folder
    (tmp_path / "read").mkdir()
    convert(file, tmp_path / "read")
    expected, found = (load_file(one / "model.safetensors") for one in (merged, tmp_path / "read"))
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    configs = [json.loads((one / "config.json").read_text("utf-8")) for one in (merged, tmp_path / "read")]
    assert configs[1] == configs[0]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / "read" / name).read_text("utf-8")) == json.loads(
            (merged / name).read_text("utf-8")
        )


FAMILIES = {
    "llama": ZOO["llama"],
    "llama 3.2": ZOO["llama 3.2"],
    "mistral": ZOO["mistral"],
    "qwen2": ZOO["qwen2"],
    "qwen3": ZOO["qwen3"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_weights_read_back_as_they_were(family: str, base_dir: Path, tmp_path: Path) -> None:
    base = with_tokenizer(base_dir, FAMILIES[family], tmp_path / "base")
    model = with_adapter(base, tmp_path / "adapter")
    exported = export(model, "gguf", tmp_path / "gguf", quietly)
    merged = export(model, "safetensors", tmp_path / "merged", quietly).folder
    ids = torch.tensor([[5, 17, 3, 60, 8, 31]])
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(merged)(input_ids=ids).logits
        assert torch.equal(load_exported(exported)(input_ids=ids).logits, expected)


@pytest.mark.parametrize(("width", "most"), [("f16", 1e-3), ("bf16", 1e-2), ("q8_0", 1e-2)])
def test_narrow_files_are_smaller_and_near(width: Width, most: float, base_dir: Path, tmp_path: Path) -> None:
    base = with_tokenizer(base_dir, ZOO["qwen3"], tmp_path / "base")
    model = with_adapter(base, tmp_path / "adapter")
    wide = export(model, "gguf", tmp_path / "f32", quietly, width="f32")
    narrow = export(model, "gguf", tmp_path / width, quietly, width=width)
    weights = [dict(load_exported(one).named_parameters()) for one in (wide, narrow)]
    largest = max(float(one.abs().max()) for one in weights[0].values())
    difference = max(float((weights[1][name] - one).abs().max()) for name, one in weights[0].items())
    assert 0 < difference < most * largest
    size = {"f16": 0.5, "bf16": 0.5, "q8_0": 34 / 128}[width]
    tensors = [sum(one.n_bytes for one in GGUFReader(file.gguf).tensors) for file in (wide, narrow)]
    assert tensors[1] / tensors[0] == pytest.approx(size, abs=0.01)


@pytest.mark.parametrize("width", ["f16", "bf16"])
def test_a_base_from_a_file_of_16_bits_is_exported_in_them(width: Width, base_dir: Path, tmp_path: Path) -> None:
    base = with_tokenizer(base_dir, ZOO["qwen3"], tmp_path / "base")
    first = export(with_adapter(base, tmp_path / "adapter"), "gguf", tmp_path / "first", quietly, width=width).gguf
    (tmp_path / "read").mkdir()
    convert(first, tmp_path / "read")
    model = with_adapter(tmp_path / "read", tmp_path / "another")
    plan = plan_gguf(model, "auto")
    assert plan.width == width
    merged = export(model, "gguf", tmp_path / "second", quietly)
    kinds = {one.name: one.tensor_type.name for one in GGUFReader(first).tensors}
    assert {one.name: one.tensor_type.name for one in GGUFReader(merged.gguf).tensors} == kinds
    assert set(kinds.values()) == {width.upper(), "F32"}
    updated = {f"blk.{index}.attn_q.weight" for index in range(2)}
    stored = [{one.name: one.data for one in GGUFReader(file).tensors} for file in (first, merged.gguf)]
    untouched = kinds.keys() - {name for name in kinds if not np.array_equal(stored[0][name], stored[1][name])}
    assert {name for name in kinds if "norm" in name or "token_embd" in name} <= untouched
    assert not updated & untouched


def test_interleaved_heads_separate_again() -> None:
    rows = np.arange(24, dtype=np.float32).reshape(12, 2)
    assert interleave(rows, 2)[:, 0].tolist() == [0, 6, 2, 8, 4, 10, 12, 18, 14, 20, 16, 22]
    assert (separate(interleave(rows, 2), 2) == rows).all()


def test_llama_3_divides_its_frequencies_as_transformers_does(tmp_path: Path) -> None:
    base = write(ZOO["llama 3.2"], tmp_path / "base")
    shape = read_shape(base)
    config = AutoModelForCausalLM.from_pretrained(base).config
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = shape.rope_theta ** -(torch.arange(0, shape.head_dim, 2) / shape.head_dim)
    factors = rope_factors(shape)
    assert factors is not None
    assert np.allclose(plain.numpy() / factors, scaled.numpy(), rtol=1e-5)
    assert factors.min() == 1.0
    assert factors.max() == 32.0


REFUSED = {
    "phi3": "The family phi3 cannot be written as GGUF here; these can: llama, mistral, qwen2, qwen3.",
    "qwen3_moe": "The family qwen3_moe cannot be written",
    "mistral 0.1": "of the family mistral cannot be written as GGUF here: some of its layers attend to a window only",
    "gemma2": "The family gemma2 cannot be written",
}


@pytest.mark.parametrize("family", REFUSED)
def test_what_llama_cpp_would_compute_otherwise_is_refused_by_name(family: str, base_dir: Path, tmp_path: Path) -> None:
    base = with_tokenizer(base_dir, ZOO[family], tmp_path / "base")
    model = with_adapter(base, tmp_path / "adapter")
    with pytest.raises(InvalidRequest) as refused:
        export(model, "gguf", tmp_path / "gguf", quietly)
    assert REFUSED[family] in refused.value.message
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter"}


RULES = {
    "smollm": None,
    "qwen2": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN}, "behavior": "Isolated", "invert": False}, BYTES,
        ],
    },
    "gpt-2": {**BYTES, "use_regex": True},
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_rule_that_splits_texts_is_recognised(rule: str, base_dir: Path, tmp_path: Path) -> None:
    base = with_tokenizer(base_dir, ZOO["qwen3"], tmp_path / "base", RULES[rule])
    assert read_tokenizer(base, VOCABULARY).rule == rule


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, 'splits texts as its tokenizer does: {"type": "Whitespace"}'),
        ({"normalizer": {"type": "Lowercase"}}, "its tokenizer changes texts first (Lowercase)"),
        ({"model": {"type": "Unigram", "vocab": []}}, "its tokenizer is Unigram, not byte-level BPE"),
    ],
    ids=["splits", "normalises", "unigram"],
)
def test_other_tokenizers_are_refused_by_name(
    change: dict[str, object], said: str, base_dir: Path, tmp_path: Path
) -> None:
    base = with_tokenizer(base_dir, ZOO["qwen3"], tmp_path / "base")
    value = json.loads((base / "tokenizer.json").read_text("utf-8"))
    (base / "tokenizer.json").write_text(json.dumps({**value, **change}), "utf-8")
    with pytest.raises(InvalidRequest) as refused:
        read_tokenizer(base, VOCABULARY)
    assert said in refused.value.message


def test_rows_that_q8_0_cannot_hold_are_named(base_dir: Path, tmp_path: Path) -> None:
    tiny = Tiny("qwen3", {**ZOO["qwen3"].changes, "intermediate_size": 72})
    model = with_adapter(with_tokenizer(base_dir, tiny, tmp_path / "base"), tmp_path / "adapter")
    with pytest.raises(InvalidRequest, match=r"mlp.down_proj.weight has rows of 72 values, which q8_0 cannot hold"):
        plan_gguf(model, "q8_0")
