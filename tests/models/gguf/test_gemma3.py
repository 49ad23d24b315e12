"""Gemma 3's GGUF files: the model computes what transformers' does, and texts are cut as SentencePiece cuts them."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

from tunesmith.errors import InvalidRequest
from tunesmith.models.gguf import convert, read_facts
from tunesmith.render.renderer import load_renderer
from tunesmith.rows.row import ChatRow, parse_row

HIDDEN, INNER, HEADS, HEAD, LAYERS = 32, 64, 2, 16, 7  # the seventh layer is windowed again
CONTROL, USER, BYTE, NORMAL = 3, 4, 6, 1
LETTERS = ["▁", *"abcdefghijklmnopqrstuvwxyzADILUTPRVW.,?!'"]
WORDS = ["th", "he", "the", "▁t", "▁the", "an", "and", "▁an", "▁and", "ab", "bc", "abc"]  # best score first
VOCABULARY = [
    *(("<pad>", CONTROL), ("<eos>", CONTROL), ("<bos>", CONTROL), ("<unk>", CONTROL)),
    *(("<start_of_turn>", CONTROL), ("<end_of_turn>", CONTROL), ("\n", USER), ("\n\n", USER), ("▁▁", USER)),
    *((f"<0x{byte:02X}>", BYTE) for byte in range(256)),
    *((piece, NORMAL) for piece in [*WORDS, *LETTERS]),
]
TOKENS = [token for token, _ in VOCABULARY]
SCORES = {piece: -float(rank) for rank, piece in enumerate([*WORDS, *LETTERS])}


@pytest.fixture(scope="module")
def model() -> Gemma3ForCausalLM:
    torch.manual_seed(1)
    kinds = ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    config = Gemma3TextConfig(
        vocab_size=len(TOKENS), hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, head_dim=HEAD,
        num_attention_heads=HEADS, num_key_value_heads=1, max_position_embeddings=64, sliding_window=4,
        query_pre_attn_scalar=HEAD, layer_types=kinds,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )  # fmt: skip
    made = Gemma3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        table = made.get_input_embeddings().weight
        packed = quantize(table.numpy(), GGMLQuantizationType.Q8_0)
        table.copy_(torch.from_numpy(dequantize(packed, GGMLQuantizationType.Q8_0)))
    return made


@pytest.fixture(scope="module")
def gguf_file(model: Gemma3ForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(model, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def write_gguf(model: Gemma3ForCausalLM, path: Path, texts: dict[str, str] | None = None) -> Path:
    writer = GGUFWriter(path, "gemma3")
    for name, number in {
        "context_length": 64, "embedding_length": HIDDEN, "block_count": LAYERS, "feed_forward_length": INNER,
        "attention.head_count": HEADS, "attention.head_count_kv": 1, "attention.key_length": HEAD,
        "attention.sliding_window": 4,
    }.items():  # fmt: skip
        writer.add_uint32(f"gemma3.{name}", number)
    writer.add_float32("gemma3.rope.freq_base", 1e6)
    writer.add_float32("gemma3.rope.scaling.factor", 8.0)
    writer.add_float32("gemma3.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_array("tokenizer.ggml.tokens", TOKENS)
    writer.add_array("tokenizer.ggml.scores", [SCORES.get(token, -1000.0) for token in TOKENS])
    writer.add_array("tokenizer.ggml.token_type", [kind for _, kind in VOCABULARY])
    for name, index in {"padding": 0, "eos": 1, "bos": 2, "unknown": 3}.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", index)
    for name, text in ({"tokenizer.ggml.model": "llama", "general.license": "gemma"} | (texts or {})).items():
        writer.add_string(name, text)
    _add_tensors(writer, model)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensors(writer: GGUFWriter, model: Gemma3ForCausalLM) -> None:
    """llama.cpp's names; it stores the norms with the 1 that is added to them."""
    parts = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if name == "model.embed_tokens.weight":
            packed = quantize(values, GGMLQuantizationType.Q8_0)
            writer.add_tensor("token_embd.weight", packed, raw_dtype=GGMLQuantizationType.Q8_0)
            continue
        values = values + np.float32(1) if "norm" in name else values
        if name == "model.norm.weight":
            writer.add_tensor("output_norm.weight", values)
            continue
        _, _, index, part = name.removesuffix(".weight").split(".", 3)
        writer.add_tensor(f"blk.{index}.{parts[part]}.weight", values)


def test_the_converted_model_computes_what_it_did(model: Gemma3ForCausalLM, gguf_file: Path, tmp_path: Path) -> None:
    convert(gguf_file, tmp_path)
    converted = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.arange(5, 29)[None]
    with torch.inference_mode():
        assert (converted(ids).logits - model(ids).logits).abs().max() < 1e-4
    name = "model.embed_tokens.weight"
    assert torch.equal(converted.state_dict()[name], model.state_dict()[name])  # of 8 bits, exactly


def test_what_the_file_says_is_known_without_converting_it(model: Gemma3ForCausalLM, gguf_file: Path) -> None:
    facts = read_facts(gguf_file, "tiny")
    assert (facts.parameters, facts.licence) == (model.num_parameters(), "gemma")
    assert facts.config["model_type"] == "gemma3_text"


def sentencepiece(text: str) -> list[str]:
    """The textbook algorithm: user-defined pieces first, then join the neighbours whose piece has the best score."""
    text, pieces = text.replace(" ", "▁"), []
    while text:
        whole = next((token for token in ("\n\n", "▁▁", "\n") if text.startswith(token)), None)
        pieces.append((whole or text[0], whole is not None))
        text = text[len(pieces[-1][0]) :]
    while True:
        joined = [
            (SCORES[left + right], -place, place)
            for place, ((left, one), (right, other)) in enumerate(pairwise(pieces))
            if not one and not other and left + right in SCORES
        ]
        if not joined:
            return [piece for piece, _ in pieces]
        place = max(joined)[2]
        pieces[place : place + 2] = [(pieces[place][0] + pieces[place + 1][0], False)]


@pytest.mark.parametrize(
    "text", ["the and then", "  theand   abcc", "band\n\n\nthe,  and\n", "athe bathe", "aabcab"], ids=range(5)
)
def test_texts_are_cut_as_sentencepiece_cuts_them(gguf_file: Path, tmp_path: Path, text: str) -> None:
    convert(gguf_file, tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    encoded = tokenizer.encode(text, add_special_tokens=False)
    assert encoded.tokens == sentencepiece(text)
    assert tokenizer.decode(encoded.ids) == text
    assert tokenizer.encode(text).tokens == ["<bos>", *encoded.tokens]
    unknown = tokenizer.encode("é", add_special_tokens=False)
    assert unknown.tokens == ["<0xC3>", "<0xA9>"]
    assert tokenizer.decode(unknown.ids) == "é"


def test_a_file_without_a_template_gets_gemmas_turns(gguf_file: Path, tmp_path: Path) -> None:
    convert(gguf_file, tmp_path)
    renderer = load_renderer(tmp_path)
    assert renderer.chat_fault is None
    turns = {"system": "a", "user": "b", "assistant": "c"}
    row = parse_row({"messages": [{"role": role, "content": text} for role, text in turns.items()]})
    assert isinstance(row, ChatRow)
    rendered = renderer.row(row)
    text = "".join(renderer.token_text(token) for token in rendered.ids)
    assert text == "<bos><start_of_turn>user\na\n\nb<end_of_turn>\n<start_of_turn>model\nc<end_of_turn>"
    learned = [token for token, weight in zip(rendered.ids, rendered.weights, strict=True) if weight]
    assert [renderer.token_text(token) for token in learned] == ["c", "<end_of_turn>"]
    assert {renderer.token_text(token) for token in renderer.eos_ids} == {"<eos>", "<end_of_turn>"}


def test_a_files_own_template_is_kept(model: Gemma3ForCausalLM, tmp_path: Path) -> None:
    convert(write_gguf(model, tmp_path / "own.gguf", {"tokenizer.chat_template": "{{ messages }}"}), tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))["chat_template"] == "{{ messages }}"


def test_another_tokenizer_is_refused_by_name(model: Gemma3ForCausalLM, tmp_path: Path) -> None:
    file = write_gguf(model, tmp_path / "other.gguf", {"tokenizer.ggml.model": "t5"})
    with pytest.raises(InvalidRequest, match="GGUF tokenizer 't5' is not supported"):
        convert(file, tmp_path)
