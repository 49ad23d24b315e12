"""Files of each architecture: the converted model computes what the model did, whose weights are read exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, dequantize
from safetensors.torch import load_file
from tests.models.gguf.tiny_files import FILES, HEAD, TOKENS, tiny_model, write_file
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from tunesmith.errors import InvalidRequest
from tunesmith.families.table import FAMILIES
from tunesmith.models.gguf import convert, read_facts
from tunesmith.models.gguf.architectures import ARCHITECTURES

IDS = torch.arange(5, 45)[None]
KINDS = [
    *("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ4_NL", "IQ4_XS", "IQ3_S", "IQ2_XS"),
]


def converted(file: Path, directory: Path) -> PreTrainedModel:
    directory.mkdir(exist_ok=True)
    convert(file, directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    assert isinstance(model, PreTrainedModel)
    return model.eval()


def difference(one: PreTrainedModel, other: PreTrainedModel) -> float:
    with torch.inference_mode():
        return float((one(IDS).logits - other(IDS).logits).abs().max())


def frequencies(model: PreTrainedModel) -> torch.Tensor:
    return model.get_submodule("model.rotary_emb").get_buffer("inv_freq")


def test_every_architecture_has_a_tiny_file_and_a_family() -> None:
    assert set(FILES) == set(ARCHITECTURES)
    assert {one.model_type for one in ARCHITECTURES.values()} <= set(FAMILIES)


@pytest.mark.parametrize("architecture", FILES)
def test_the_converted_model_computes_what_it_did(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    file = write_file(tmp_path / "tiny.gguf", architecture, model)
    assert difference(converted(file, tmp_path / "base"), model) < 1e-5
    facts = read_facts(file, "tiny")
    assert facts.parameters == model.num_parameters()
    assert facts.config == json.loads((tmp_path / "base" / "config.json").read_text("utf-8"))


@pytest.mark.parametrize("architecture", FILES)
def test_the_weights_are_those_that_transformers_reads_of_the_file(architecture: str, tmp_path: Path) -> None:
    file = write_file(tmp_path / "tiny.gguf", architecture, tiny_model(architecture), GGMLQuantizationType.Q4_0)
    model = converted(file, tmp_path / "base")
    read = load_gguf_checkpoint(file, return_tensors=True, model_to_load=model)  # type: ignore[no-untyped-call]
    theirs = read["tensors"]
    ours = model.state_dict()
    assert set(ours) - set(theirs) <= {"lm_head.weight"}  # the embeddings once more
    assert [name for name, values in theirs.items() if not torch.equal(ours[name], values)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_quantisation_is_read_as_the_gguf_package_reads_it(kind: str, tmp_path: Path) -> None:
    quantisation = GGMLQuantizationType[kind]
    file = write_file(tmp_path / "tiny.gguf", "qwen3", tiny_model("qwen3"), quantisation)
    convert(file, tmp_path)
    ours = {name: tensor.float().numpy() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    stored = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(file).tensors}
    pairs = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.layers.1.mlp.down_proj.weight": "blk.1.ffn_down.weight",
        "model.layers.0.self_attn.q_proj.weight": "blk.0.attn_q.weight",
    }
    for name, gguf_name in pairs.items():
        assert np.isfinite(ours[name]).all()
        assert (ours[name] == stored[gguf_name]).all(), name
        assert len(np.unique(ours[name])) > 10


def test_biases_of_a_llama_are_read_and_their_halves_separated(tmp_path: Path) -> None:
    model = tiny_model("llama", attention_bias=True)
    assert difference(converted(write_file(tmp_path / "tiny.gguf", "llama", model), tmp_path / "base"), model) < 1e-5


def test_heads_may_be_wider_than_their_share_of_a_token(tmp_path: Path) -> None:
    model = tiny_model("llama", head_dim=2 * HEAD)
    keys: dict[str, object] = {"llama.attention.key_length": 2 * HEAD, "llama.rope.dimension_count": 2 * HEAD}
    file = write_file(tmp_path / "tiny.gguf", "llama", model, keys=keys)
    assert difference(converted(file, tmp_path / "base"), model) < 1e-5


def test_llama_3s_rotation_is_found_in_what_its_frequencies_are_divided_by(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    model = tiny_model("llama", rope_parameters=rope)
    plain = tiny_model("llama", rope_parameters={"rope_type": "default", "rope_theta": 500_000.0})
    factors = frequencies(plain) / frequencies(model)
    keys: dict[str, object] = {"llama.rope.freq_base": 500_000.0}
    file = write_file(tmp_path / "a.gguf", "llama", model, keys=keys, extra={"rope_freqs.weight": factors.numpy()})
    assert difference(converted(file, tmp_path / "base"), model) < 1e-5
    assert read_facts(file, "tiny").config["rope_parameters"] == rope
    other = {"rope_freqs.weight": factors.numpy() ** 2}
    with pytest.raises(InvalidRequest, match=r"rope_freqs\.weight are not those of Llama 3's rotation"):
        convert(write_file(tmp_path / "b.gguf", "llama", model, keys=keys, extra=other), tmp_path)


@pytest.mark.parametrize(
    ("keys", "rope"),
    [
        ({"factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"type": "none", "factor": 4.0}, {"rope_type": "default"}),
        (
            {"type": "yarn", "factor": 4.0, "original_context_length": 16},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        ),
    ],
    ids=["old", "linear", "none", "yarn"],
)
def test_stretched_positions_are_as_transformers_stretches_them(
    keys: dict[str, object], rope: dict[str, object], tmp_path: Path
) -> None:
    model = tiny_model("qwen2", rope_parameters={"rope_theta": 10_000.0, **rope})
    scaling = {f"qwen2.rope.scaling.{key}": value for key, value in keys.items()}
    file = write_file(tmp_path / "tiny.gguf", "qwen2", model, keys=scaling)
    assert difference(converted(file, tmp_path / "base"), model) < 1e-5


def test_phi_4_minis_rotation_of_a_part_of_each_head_is_read(tmp_path: Path) -> None:
    part = HEAD * 3 // 4
    short, long = np.linspace(1, 1.5, part // 2, dtype=np.float32), np.linspace(1, 4, part // 2, dtype=np.float32)
    rope = {
        "rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": short.tolist(), "long_factor": long.tolist(),
        "original_max_position_embeddings": 16, "partial_rotary_factor": 0.75,
    }  # fmt: skip
    model = tiny_model("phi3", rope_parameters=rope, partial_rotary_factor=0.75, original_max_position_embeddings=16)
    keys: dict[str, object] = {"phi3.rope.dimension_count": part, "phi3.rope.scaling.original_context_length": 16}
    extra = {"rope_factors_short.weight": short, "rope_factors_long.weight": long}
    file = write_file(tmp_path / "tiny.gguf", "phi3", model, keys=keys, extra=extra)
    assert difference(converted(file, tmp_path / "base"), model) < 1e-5


@pytest.mark.parametrize(
    ("keys", "extra", "said"),
    [
        ({}, {"blk.0.attn_sinks.weight": np.ones(4, np.float32)}, "has a tensor blk.0.attn_sinks.weight, unlike"),
        ({"qwen2.block_count": 3}, {}, "has no tensor blk.2.attn_k.bias, unlike"),
        ({"split.count": 2}, {}, "is one of 2 parts. Make one file of them first: llama-gguf-split --merge"),
        (
            {"qwen2.rope.scaling.type": "dynamic", "qwen2.rope.scaling.factor": 2.0},
            {},
            "stretches its positions by the rule 'dynamic'",
        ),
        ({"tokenizer.ggml.pre": "new"}, {}, "GGUF tokenizer 'gpt2'/'new' is not supported (of gpt2: smollm, "),
        ({"tokenizer.ggml.model": "t5"}, {}, "GGUF tokenizer 't5' is not supported (only gpt2 and llama)"),
    ],
    ids=["unknown", "missing", "parts", "rotation", "rule", "tokenizer"],
)
def test_what_is_not_read_is_named(
    keys: dict[str, object], extra: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    file = write_file(tmp_path / "tiny.gguf", "qwen2", tiny_model("qwen2"), keys=keys, extra=extra)
    for look in (lambda: read_facts(file, "tiny"), lambda: convert(file, tmp_path)):  # before and after it is added
        with pytest.raises(InvalidRequest) as refused:
            look()
        assert said in refused.value.message


def test_a_quantisation_that_the_gguf_package_cannot_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf.quants

    file = write_file(tmp_path / "tiny.gguf", "qwen2", tiny_model("qwen2"), GGMLQuantizationType.Q4_K)
    monkeypatch.delitem(gguf.quants._type_traits, GGMLQuantizationType.Q4_K)
    with pytest.raises(InvalidRequest, match=r"tensor \S+ is quantized as Q4_K, which the installed gguf package"):
        convert(file, tmp_path)


def test_a_file_without_a_template_or_padding_is_read(tmp_path: Path) -> None:
    file = write_file(tmp_path / "tiny.gguf", "qwen2", tiny_model("qwen2"), keys={"tokenizer.ggml.bos_token_id": None})
    convert(file, tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    assert {key: settings.get(key) for key in ("chat_template", "bos_token", "eos_token", "pad_token")} == {
        "chat_template": None, "bos_token": None, "eos_token": TOKENS[1], "pad_token": None,
    }  # fmt: skip
