"""Texts are cut as the tokenizers of the models' authors cut them, and begin as the file says."""

from functools import cache
from pathlib import Path

import pytest
from tests.models.gguf.tiny_files import tiny_model, write_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedModel

from tunesmith.errors import InvalidRequest
from tunesmith.models.gguf import convert
from tunesmith.models.gguf.bpe import RULES

TEXTS = (
    "hello hello  12345 1/2, it's HELLO'S\n\n\t o'clock",
    "Zürich, naïve café; ١٢٣ \r\n x",
    "<|start|>hello<tool>hello <|end|>12",
    "今年武汉的冬天冷不冷? WE'RE fineText XMLHttp //\n",
)
PIECES = ["▁", *"abcdehlo,", "he", "ll", "hell", "hello", "▁hello"]
SPM_TOKENS = ["<unk>", "<s>", "</s>", "<tool>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
SPM = {
    "model": "llama", "pre": None, "merges": None, "tokens": SPM_TOKENS, "unknown_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "token_type": [2, 3, 3, 4, *[6] * 256, *[1] * len(PIECES)],
    "scores": [*[0.0] * 260, *[-20.0] * 10, *(-float(rank) for rank in range(len(PIECES) - 10))],
}  # fmt: skip


@cache
def model(architecture: str) -> PreTrainedModel:
    return tiny_model(architecture)


def converted(architecture: str, directory: Path, **keys: object) -> Tokenizer:
    changes = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    convert(write_file(directory / "tiny.gguf", architecture, model(architecture), keys=changes), directory)
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def plain(tokenizer: Tokenizer, text: str) -> list[str]:
    tokens: list[str] = tokenizer.encode(text, add_special_tokens=False).tokens
    return tokens


@pytest.mark.parametrize("rule", ["qwen2", "llama-bpe", "tekken", "gpt-4o", "dbrx", "gpt-2"])
def test_ids_are_those_of_transformers_own_reading(rule: str, tmp_path: Path) -> None:
    tokenizer = converted("qwen3", tmp_path, pre=rule)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == theirs(text, add_special_tokens=False).input_ids, text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_cuts_and_joins_texts(rule: str, tmp_path: Path) -> None:
    tokenizer = converted("qwen2", tmp_path, pre=rule)
    assert plain(tokenizer, "hello hello") == ["hello", "Ġ", "hello"]
    assert plain(tokenizer, "1234") == (["12", "3", "4"] if rule in PAIRS else ["1", "2", "3", "4"])
    assert tokenizer.decode(tokenizer.encode(TEXTS[3]).ids) == TEXTS[3]


PAIRS = {"gpt-2", "phi-2", "llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe", "gpt-4o"}


def test_qwens_texts_are_composed_first(tmp_path: Path) -> None:
    tokenizer = converted("qwen2", tmp_path)
    assert plain(tokenizer, "e\u0301") == plain(tokenizer, "é")


def test_a_word_that_is_a_token_is_one_where_merges_are_left_out(tmp_path: Path) -> None:
    assert plain(converted("llama", tmp_path, pre="llama-bpe", merges=["h e"]), "hello") == ["hello"]
    assert plain(converted("qwen2", tmp_path, merges=["h e"]), "hello") == ["he", "l", "l", "o"]


@pytest.mark.parametrize(
    ("rule", "adds", "starts"),
    [("qwen2", None, False), ("qwen2", True, True), ("llama-bpe", None, True), ("llama-bpe", False, False)],
    ids=["qwen2", "qwen2-told", "llama3", "llama3-told"],
)
def test_a_text_begins_as_the_file_says(rule: str, adds: bool | None, starts: bool, tmp_path: Path) -> None:
    tokenizer = converted("qwen2", tmp_path, pre=rule, add_bos_token=adds)
    assert tokenizer.encode("hello").tokens == [*(["<|start|>"] if starts else []), "hello"]


def test_user_defined_tokens_are_whole_and_not_special(tmp_path: Path) -> None:
    tokenizer = converted("qwen2", tmp_path)
    ids = tokenizer.encode("<tool>hello<|end|>").ids
    assert tokenizer.decode(ids) == "<tool>hello"


def test_a_llama_vocabulary_of_sentencepiece_is_read(tmp_path: Path) -> None:
    tokenizer = converted("llama", tmp_path, **SPM)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    assert tokenizer.encode("hello hello").tokens == ["<s>", "▁hello", "▁hello"]
    for text in ("hello hello", "a hello, lo", "é hello", "hello</s>"):
        ids = tokenizer.encode(text).ids
        assert ids == theirs(text).input_ids, text
        assert tokenizer.decode(ids[1:], skip_special_tokens=False) == text


def test_a_vocabulary_without_a_blank_before_texts_puts_none(tmp_path: Path) -> None:
    tokenizer = converted("llama", tmp_path, **SPM, add_space_prefix=False, add_bos_token=False)
    assert tokenizer.encode("hello hello").tokens == ["hello", "▁hello"]


def test_phi_3s_sentencepiece_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="GGUF tokenizer 'llama' of Phi-3 is not supported"):
        converted("phi3", tmp_path, **SPM)
