"""Files whose keys and tensors do not fit are refused when they are added, not when they are loaded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.models.gguf.tiny_files import FILES, LAYERS, MERGES, TOKENS, WIDTH, tiny_model, write_file

from tunesmith.errors import InvalidRequest
from tunesmith.models.gguf import convert, read_facts

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    model = tiny_model("llama")

    def written(**options: object) -> Path:
        return write_file(tmp_path_factory.mktemp("gguf") / "tiny.gguf", "llama", model, **options)  # type: ignore[arg-type]

    return written


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("block_count", 4_294_967_295, "block_count is 4,294,967,295"),  # a list of so many would fill the memory
        ("block_count", LAYERS - 1, rf"has a tensor blk\.{LAYERS - 1}"),
        ("embedding_length", 2 * WIDTH, rf"token_embd\.weight has the shape \[{len(TOKENS)}, {WIDTH}\]"),
        ("feed_forward_length", 32, r"blk\.0\.ffn_\w+\.weight has the shape"),
        ("attention.head_count", 0, "head_count is 0"),
        ("attention.head_count", 3, "no multiple of head_count_kv 2"),
        ("attention.head_count_kv", 4, r"blk\.0\.attn_k\.weight has the shape"),
        ("attention.key_length", 63, "a head has 63 values"),
        ("rope.dimension_count", 32, "32 are rotated"),
        ("context_length", 0, "context_length is 0"),
        ("rope.freq_base", 0.0, "freq_base is not above 0"),
        ("rope.freq_base", float("nan"), "freq_base is nan, not a number"),
        ("attention.layer_norm_rms_epsilon", -1.0, "an epsilon is below 0"),
    ],
)
def test_keys_that_do_not_fit_are_named_when_the_file_is_looked_at(
    write: Write, key: str, value: float, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read_facts(write(keys={f"llama.{key}": value}), "tiny")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"eos_token_id": len(TOKENS)}, f"ids up to {len(TOKENS)}"),
        ({"merges": [*MERGES, "nowhere else"]}, "cannot be read: Token `nowhere` out of vocabulary"),
        ({"merges": ["hell"]}, "tokenizer cannot be read"),
    ],
    ids=["end-beyond-tokens", "merge-of-no-tokens", "merge-of-one"],
)
def test_a_tokenizer_that_does_not_fit_is_refused_when_the_file_is_converted(
    write: Write, tmp_path: Path, keys: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        convert(write(keys={f"tokenizer.ggml.{key}": value for key, value in keys.items()}), tmp_path)


def test_biases_in_some_blocks_are_not_lost(write: Write) -> None:
    """transformers would ignore them where the config promises none."""
    bias = np.ones(WIDTH, np.float32)
    assert read_facts(write(extra={"blk.1.attn_q.bias": bias}), "tiny").config["attention_bias"] is True
    assert read_facts(write(), "tiny").config["attention_bias"] is False


@pytest.mark.parametrize("architecture", FILES)
def test_the_files_of_every_architecture_fit(architecture: str, tmp_path: Path) -> None:
    file = write_file(tmp_path / "tiny.gguf", architecture, tiny_model(architecture))
    assert read_facts(file, "tiny").parameters > 0
