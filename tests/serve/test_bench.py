"""What the figures of `bench/serve.py` rest on, besides the engines."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bench.serve import QUICK, THOROUGH, Plan, made
from bench.serving.engines import KINDS
from bench.serving.gguf_files import write_adapter as write_gguf_adapter
from bench.serving.tables import Figure, Machine, Sample, Sizes, print_tables
from gguf import GGUFReader

from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.models.gguf.weights import separated

DECODE = Figure("decode", "tokens/s", streams=8)


def test_an_adapter_in_gguf_has_the_rotary_halves_as_the_base_in_gguf(tmp_path: Path) -> None:
    name = "base_model.model.model.layers.3.self_attn.q_proj"
    low = {f"{name}.lora_A.weight": torch.randn(2, 6), f"{name}.lora_B.weight": torch.randn(8, 2)}
    write_adapter(tmp_path / "adapter", low, AdapterManifest("base", "", "", 2, 4.0, ("q_proj",), 1))
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 4, "vocab_size": 9}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **sizes}))
    reader = GGUFReader(write_gguf_adapter(tmp_path / "adapter", tmp_path, tmp_path / "adapter.gguf"))
    tensors = {tensor.name: np.asarray(tensor.data, dtype=np.float32) for tensor in reader.tensors}
    assert reader.fields["adapter.lora.alpha"].contents() == 4.0
    np.testing.assert_allclose(
        tensors["blk.3.attn_q.weight.lora_a"], low[f"{name}.lora_A.weight"], rtol=1e-3, atol=1e-3
    )
    stored = tensors["blk.3.attn_q.weight.lora_b"]
    unpermuted = stored[separated(len(stored), 2)]
    np.testing.assert_allclose(unpermuted, low[f"{name}.lora_B.weight"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("answer", "tokens"), [([5, 6, 7, 8], 4), ([5, 6], 3), ([5, 6, 2], 3), ([2], 1), ([], 1)], ids=str
)
def test_the_token_that_ends_an_answer_counts_once_shown_or_not(answer: list[int], tokens: int) -> None:
    assert made(answer, 4, frozenset({2})) == tokens


def test_the_limit_is_the_slower_of_reading_weights_and_multiplying() -> None:
    sizes, kind = Sizes(layers=80, head=20, adapter=0, attention=0), KINDS["float32"]
    assert sizes.limit(DECODE, kind, Machine(400.0, 1e9)) == pytest.approx(8.0)  # 100 values of 4 bytes a step
    assert sizes.limit(DECODE, kind, Machine(1e9, 1600.0)) == pytest.approx(8.0)  # 2 operations a value and stream
    assert sizes.limit(DECODE, KINDS["float16"], Machine(400.0, 1e9)) == pytest.approx(16.0)


def test_tables_compare_with_the_best_peer_and_count_equal_answers(capsys: pytest.CaptureFixture[str]) -> None:
    answers = {"float32": (1, 5, 2, 8), "llamacpp-f16": (1, 6, 2), "transformers": (1, 5, 2, 7)}
    rates = {"float32": 30.0, "llamacpp-f16": 20.0, "transformers": 10.0}
    samples = [Sample(name, DECODE, rates[name], (answers[name],)) for name in rates]
    print_tables(samples, Machine(1e9, 1e9), Sizes(1, 1, 1, 1), ends={2})
    printed = capsys.readouterr().out
    assert "| decode, tokens/s | 30.0 | 20.0 | 10.0 | 1.50 |" in printed
    assert "Tunesmith float32: 1 of 1" in printed
    assert "llama.cpp F16: 0 of 1" in printed


def test_several_rounds_show_their_median_and_range(capsys: pytest.CaptureFixture[str]) -> None:
    samples = [Sample("float32", DECODE, rate) for rate in (30.0, 24.0, 31.5)]
    samples += [Sample("transformers", DECODE, rate) for rate in (10.0, 12.0)]
    print_tables(samples, Machine(1e9, 1e9), Sizes(1, 1, 1, 1), ends={2})
    assert "| decode, tokens/s | 30.0 (24.0-31.5) | 11.0 (10.0-12.0) | 2.73 |" in capsys.readouterr().out


@pytest.mark.parametrize("plan", [THOROUGH, QUICK], ids=["thorough", "quick"])
def test_there_are_three_rounds_unless_fewer_are_asked_for(plan: Plan) -> None:
    assert plan.rounds >= 3
