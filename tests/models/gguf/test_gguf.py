"""The converted base: its token ids are those of the GGUF's own rules, and its weights load and speak."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import regex
from gguf import GGUFReader
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from tunesmith.errors import InvalidRequest
from tunesmith.models.directory import _find_gguf, context_length, fingerprint
from tunesmith.models.gguf import convert
from tunesmith.models.registry import PackagedGguf, resolve_base
from tunesmith.render.detokenizer import _gpt2_alphabet
from tunesmith.settings import Settings

Writer = Callable[..., Path]

# llama.cpp's rule for tokenizer.ggml.pre = "smollm": single digits first, then GPT-2's split.
SMOLLM_RULES = (
    r"\p{N}",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
)
TEXTS = (
    "In 2023, 1,234.56 units cost $0.008 each; call +49 30 1234567.",
    "版本3.14,共100个样本,2024年1月14日",
    "x=12345\n\n  def f(n):\n\treturn n*1000\n",
    "He'll say it's 7½ o'clock — ٣٤٥ Ⅷ ²",
    "   leading and trailing   ",
)


class ReferenceBpe:
    """The textbook algorithm over the GGUF's own tables: split by the rules, merge the lowest rank first."""

    def __init__(self, gguf_file: Path) -> None:
        fields = GGUFReader(gguf_file).fields
        self.ids = {token: index for index, token in enumerate(fields["tokenizer.ggml.tokens"].contents())}
        merges = fields["tokenizer.ggml.merges"].contents()
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        self.letters = {byte: letter for letter, byte in _gpt2_alphabet().items()}

    def encode(self, text: str) -> list[int]:
        return [self.ids[token] for word in self.split(text) for token in self.merge(word)]

    def split(self, text: str) -> list[str]:
        words = [text]
        for rule in SMOLLM_RULES:
            words = [piece for word in words for piece in self.split_keeping_the_rest(rule, word)]
        return words

    def split_keeping_the_rest(self, rule: str, word: str) -> list[str]:
        pieces, end = [], 0
        for match in regex.finditer(rule, word):
            pieces += [word[end : match.start()], match[0]]
            end = match.end()
        return [piece for piece in [*pieces, word[end:]] if piece]

    def merge(self, word: str) -> list[str]:
        parts = [self.letters[byte] for byte in word.encode()]
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, 1 << 30))
            if best not in self.ranks:
                break
            at = pairs.index(best)
            parts[at : at + 2] = ["".join(best)]
        return parts


@pytest.fixture(scope="module")
def reference() -> ReferenceBpe:
    source = resolve_base("smollm2-135m-instruct", Settings()).source
    assert isinstance(source, PackagedGguf)
    gguf_file = _find_gguf(source, Settings())
    assert gguf_file is not None
    return ReferenceBpe(gguf_file)


@pytest.mark.parametrize("text", TEXTS)
def test_token_ids_are_those_of_the_ggufs_own_rule(base_dir: Path, reference: ReferenceBpe, text: str) -> None:
    tokenizer = Tokenizer.from_file(str(base_dir / "tokenizer.json"))
    assert tokenizer.encode(text).ids == reference.encode(text)


def test_digits_are_split_one_by_one(base_dir: Path) -> None:
    tokenizer = Tokenizer.from_file(str(base_dir / "tokenizer.json"))
    assert tokenizer.encode("12345").tokens == ["1", "2", "3", "4", "5"]


def test_converted_base_answers_in_english(base_dir: Path) -> None:
    import torch

    from tunesmith.models.weights import load_model
    from tunesmith.render.renderer import load_renderer
    from tunesmith.rows.messages import Message

    renderer, model = load_renderer(base_dir), load_model(base_dir, torch.float32)
    prompt = torch.tensor([renderer.prompt([Message("user", "What is the capital of France?")])])
    answer = model.generate(prompt, max_new_tokens=12, do_sample=False)[0, prompt.shape[1] :].tolist()
    assert "Paris" in renderer.decode(answer)


def test_context_length_and_fingerprint_come_from_the_directory(base_dir: Path) -> None:
    assert context_length(base_dir) == 8192
    assert len(fingerprint(base_dir)) == 16


def test_a_file_of_another_architecture_or_tokenizer_is_refused_by_name(write_gguf: Writer, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"tiny\.gguf has architecture 'mamba'; only GGUF files of llama, "):
        convert(write_gguf(architecture="mamba"), tmp_path)
    with pytest.raises(InvalidRequest, match="GGUF tokenizer 'gpt2'/'default' is not supported"):
        convert(write_gguf(tokenizer__ggml__pre="default"), tmp_path)
    with pytest.raises(InvalidRequest, match="GGUF tokenizer 'bert' is not supported"):
        convert(write_gguf(tokenizer__ggml__model="bert"), tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("llama__embedding_length", "eight", "GGUF key llama.embedding_length is 'eight', not an integer"),
        ("llama__rope__freq_base", "high", "GGUF key llama.rope.freq_base is 'high', not a number"),
        ("tokenizer__ggml__merges", "a b", "GGUF key tokenizer.ggml.merges is not a list"),
        ("tokenizer__ggml__token_type", 3, "GGUF key tokenizer.ggml.token_type is not a list"),
        ("llama__block_count", None, "GGUF key llama.block_count is missing"),
        ("tokenizer__ggml__tokens", None, "GGUF key tokenizer.ggml.tokens is missing"),
    ],
)
def test_a_damaged_key_is_named(key: str, value: object, fault: str, write_gguf: Writer, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        convert(write_gguf(**{key: value}), tmp_path)
    assert str(caught.value) == f"{fault}: the file is damaged."


def test_special_tokens_are_never_split_and_the_others_are_merged(write_gguf: Writer, tmp_path: Path) -> None:
    convert(write_gguf(), tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("</s>ab12").tokens == ["</s>", "ab", "1", "2"]
    assert tokenizer.encode("</s>").ids == [2]
    assert tokenizer.decode(tokenizer.encode("ab c", add_special_tokens=False).ids) == "ab c"


def test_the_rotary_halves_are_separated_head_by_head(write_gguf: Writer, tmp_path: Path) -> None:
    file = write_gguf()
    convert(file, tmp_path)
    converted = load_file(tmp_path / "model.safetensors")
    stored = {tensor.name: tensor.data for tensor in GGUFReader(file).tensors}
    query = stored["blk.0.attn_q.weight"]  # two heads of four rows: 0, 2 | 1, 3 belong together
    assert (converted["model.layers.0.self_attn.q_proj.weight"] == query[[0, 2, 1, 3, 4, 6, 5, 7]]).all()
    assert (converted["model.layers.0.self_attn.v_proj.weight"] == stored["blk.0.attn_v.weight"]).all()
