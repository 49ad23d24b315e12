"""Where a plain text begins and ends, beside transformers' own tokenizers."""

import json
from pathlib import Path

import pytest
from tests.render.bases import VOCABULARY, make_base
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import Prepend, Replace, Sequence
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer

from tunesmith.jsonvalue import JsonObject
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.rows.messages import Message
from tunesmith.rows.row import ChatRow, CompletionRow

BOS, EOS = "<|begin|>", "<|im_end|>"
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BYTES: JsonObject = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def around(bos: bool, eos: bool, ids: dict[str, int]) -> JsonObject:
    """The post-processor of Llama's tokenizers."""
    text: JsonObject = {"Sequence": {"id": "A", "type_id": 0}}
    start: list[JsonObject] = [{"SpecialToken": {"id": BOS, "type_id": 0}}] if bos else []
    end: list[JsonObject] = [{"SpecialToken": {"id": EOS, "type_id": 0}}] if eos else []
    tokens: JsonObject = {name: {"id": name, "ids": [at], "tokens": [name]} for name, at in ids.items()}
    return {"type": "TemplateProcessing", "single": [*start, text, *end], "pair": [], "special_tokens": tokens}


def sequence(*processors: JsonObject) -> JsonObject:
    return {"type": "Sequence", "processors": [*processors]}


@pytest.fixture(scope="module")
def ids(base_dir: Path) -> dict[str, int]:
    vocabulary = json.loads((base_dir / "tokenizer.json").read_text())["model"]["vocab"]
    return {BOS: VOCABULARY, EOS: vocabulary[EOS]}


CASES = ["none", "bytes", "start", "bytes then start", "both", "end", "add_bos", "no bos", "no template"]


def made(case: str, base: Path, target: Path, ids: dict[str, int]) -> Path:
    processors: dict[str, JsonObject | None] = {
        "bytes": BYTES,
        "start": around(True, False, ids),
        "bytes then start": sequence(BYTES, around(True, False, ids)),
        "both": around(True, True, ids),
        "end": around(False, True, ids),
        "no bos": around(True, False, ids),
        "no template": around(True, False, ids),
    }
    config: dict[str, JsonObject] = {
        "add_bos": {"add_bos_token": True},
        "no bos": {"add_bos_token": False},
    }
    return make_base(
        base,
        target,
        None if case == "no template" else CHAT,
        special=(BOS,),
        post_processor=processors.get(case),
        config={"bos_token": BOS, **config.get(case, {})},
    )


STARTED = {"start", "bytes then start", "both", "no bos", "no template"}  # add_bos_token counts for nothing


@pytest.mark.parametrize("case", CASES)
def test_a_prompt_starts_as_transformers_starts_a_text(
    base_dir: Path, tmp_path: Path, ids: dict[str, int], case: str
) -> None:
    directory = made(case, base_dir, tmp_path / "base", ids)
    renderer, theirs = load_renderer(directory), AutoTokenizer.from_pretrained(directory)
    for text in ("Is it cold in Wuhan?", " 明天\n", "a"):
        expected = theirs(text).input_ids
        if expected[-1] == ids[EOS]:
            expected.pop()  # a prompt is to be continued
        assert renderer.text_prompt(text) == expected
        assert (expected[0] == ids[BOS]) == (case in STARTED)


@pytest.mark.parametrize("case", CASES)
def test_a_row_is_the_prompt_the_completion_and_one_end(
    base_dir: Path, tmp_path: Path, ids: dict[str, int], case: str
) -> None:
    renderer = load_renderer(made(case, base_dir, tmp_path / "base", ids))
    prompt, completion = renderer.text_prompt("Cold?"), renderer.encode(" Yes.")
    rendered = renderer.row(CompletionRow("Cold?", " Yes."))
    assert rendered.ids == [*prompt, *completion, ids[EOS]]
    assert rendered.weights == [0.0] * len(prompt) + [1.0] * (len(completion) + 1)


@pytest.mark.parametrize("case", [case for case in CASES if case != "no template"])
def test_a_chat_starts_once_where_its_template_says(
    base_dir: Path, tmp_path: Path, ids: dict[str, int], case: str
) -> None:
    renderer = load_renderer(made(case, base_dir, tmp_path / "base", ids))
    row = ChatRow((Message("user", "Cold?"), Message("assistant", "Yes.")))
    assert renderer.row(row).ids.count(ids[BOS]) == 1
    assert renderer.row(row).ids[0] == ids[BOS]


# Tokenizers that put a blank before a text, as those made with SentencePiece do.


def sentencepiece(folder: Path, kind: str) -> Path:
    folder.mkdir()
    tokenizer = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True))
    if kind == "prepend":
        tokenizer.normalizer = Sequence([Prepend("▁"), Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = Metaspace(prepend_scheme=kind, split=False)
    tokenizer.decoder = MetaspaceDecoder()
    words = ["Is it cold in Wuhan? Yes, it is cold.", "user: hello", "assistant: yes no"]
    trainer = BpeTrainer(special_tokens=["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], show_progress=False)
    tokenizer.train_from_iterator(words * 50, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "add_bos_token": True,
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


KINDS = ["prepend", "always", "first", "never"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_completion_gets_no_blank_that_it_does_not_have(tmp_path: Path, kind: str) -> None:
    folder = sentencepiece(tmp_path / "base", kind)
    renderer, theirs = load_renderer(folder), AutoTokenizer.from_pretrained(folder)
    rendered = renderer.row(CompletionRow("Is it cold in Wuhan?", " Yes, it is."))
    prompt = theirs("Is it cold in Wuhan?").input_ids
    assert rendered.ids[: len(prompt)] == prompt == renderer.text_prompt("Is it cold in Wuhan?")
    whole = [*theirs("Is it cold in Wuhan? Yes, it is.").input_ids, theirs.eos_token_id]
    assert spelled(renderer, rendered.ids) == spelled(renderer, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_chat_gets_no_blank_that_its_template_does_not_write(tmp_path: Path, kind: str) -> None:
    folder = sentencepiece(tmp_path / "base", kind)
    renderer, theirs = load_renderer(folder), AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]
    whole = theirs.apply_chat_template(messages, tokenize=False)
    expected = theirs(whole, add_special_tokens=False).input_ids
    ids = renderer.row(ChatRow((Message("user", "hello"), Message("assistant", "yes")))).ids
    assert spelled(renderer, ids) == spelled(renderer, expected)


def spelled(renderer: Renderer, ids: list[int]) -> str:
    return b"".join(renderer.token_bytes(token) for token in ids).decode()
