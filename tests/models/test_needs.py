"""What a base takes of a machine, by its config alone: the sums of its parts."""

import json
from pathlib import Path

import pytest
from tests.families.zoo import ZOO, write

from tunesmith.families.lora_layers import linear_paths
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.facts import count_parameters
from tunesmith.models.headers.safetensors_header import read_header
from tunesmith.models.needs import LOGIT_TOKENS, PROCESS_BYTES, SLICE_LOGIT_TOKENS, needs

SMOLLM2: JsonObject = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49_152,
}  # fmt: skip


def test_serving_is_the_weights_in_float32_and_training_adds_adapter_and_activations() -> None:
    found = needs(SMOLLM2, 134_515_008, rank=16, tokens=100)
    assert found.serving == 4 * 134_515_008 + PROCESS_BYTES
    adapter = 4_884_480  # of rank 16 on SmolLM2's 210 linear layers, as a run says
    kept = 30 * (4 * 576 + 2 * 576 + 2 * 192 + 2 * 1536) * 4
    output = 4 * 49_152 * (576 + LOGIT_TOKENS)
    assert found.training - found.serving == 16 * adapter + output + 100 * kept
    assert found.serving < found.least < found.training


@pytest.mark.parametrize("given", [{"dtype": "bfloat16"}, {"torch_dtype": "float16"}], ids=str)
def test_weights_in_16_bits_take_half_where_compiled_code_reads_them(given: JsonObject) -> None:
    parameters, adapter = 134_515_008, 4_884_480
    found = needs({**SMOLLM2, **given, "model_type": "llama"}, parameters, rank=16, tokens=0)
    assert found.serving == 2 * parameters + PROCESS_BYTES
    assert found.training - found.serving == 16 * adapter + 4 * 49_152 * SLICE_LOGIT_TOKENS
    wide = needs(SMOLLM2, parameters, rank=16, tokens=0)
    assert needs({**SMOLLM2, **given, "model_type": "cohere"}, parameters, rank=16, tokens=0) == wide
    assert needs({**SMOLLM2, **given, "model_type": "llama"}, parameters, rank=16, tokens=0, narrow=False) == wide


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3_text", "gemma3"])
def test_the_adapter_is_the_one_that_the_weight_files_allow(name: str, tmp_path: Path) -> None:
    base = write(ZOO[name], tmp_path)
    config = json.loads((base / "config.json").read_text("utf-8"))
    parameters = count_parameters(base).total()
    shapes = {name: one.shape for file in base.glob("*.safetensors") for name, one in read_header(file).items()}
    paths = linear_paths(base)
    values = sum(sum(shape) for path in paths for stored, shape in shapes.items() if stored.endswith(f"{path}.weight"))
    one, two = (needs(config, parameters, rank, tokens=0) for rank in (1, 2))
    assert two.training - one.training == 16 * values


def test_a_run_of_the_shipped_base_takes_what_was_measured() -> None:
    assert 2.1e9 < needs(SMOLLM2, 134_515_008).training < 2.6e9  # 2.1 to 2.4 GB in docs/benchmarks.md
