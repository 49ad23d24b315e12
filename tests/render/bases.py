"""Bases with other templates and tokenizers than the real one, made of SmolLM2's."""

import json
from functools import cache
from pathlib import Path

from tunesmith.jsonvalue import JsonObject

VOCABULARY = 1024  # of its tokens; all of its special ones and all bytes are among them
SPECIAL = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def make_base(
    base: Path,
    target: Path,
    template: str | None,
    *,
    special: tuple[str, ...] = (),
    plain: tuple[str, ...] = (),
    eos: str | None = "<|im_end|>",
    post_processor: JsonObject | None = None,
    config: JsonObject | None = None,
) -> Path:
    """A directory with SmolLM2's first tokens, further ones (special or not), and this template or none.

    All 49,152 would take every test that loads such a base a second.
    """
    target.mkdir(parents=True, exist_ok=True)
    tokenizer = json.loads(_small_tokenizer(base))
    for offset, token in enumerate((*special, *plain)):
        entry = {**SPECIAL, "id": VOCABULARY + offset, "content": token, "special": token in special}
        tokenizer["added_tokens"].append(entry)
    tokenizer["post_processor"] = post_processor
    (target / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    said: JsonObject = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, **(config or {})}
    if template is not None:
        said["chat_template"] = template
    (target / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    return target


@cache
def _small_tokenizer(base: Path) -> str:
    tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    model = tokenizer["model"]
    vocabulary = {token: index for token, index in model["vocab"].items() if index < VOCABULARY}
    merges = [one for one in model["merges"] if {*one, "".join(one)} <= vocabulary.keys()]
    return json.dumps({**tokenizer, "model": {**model, "vocab": vocabulary, "merges": merges}})


def starts_text(token: str, index: int) -> JsonObject:
    """A post-processor that puts one token before a text, as Llama's does."""
    start: JsonObject = {"SpecialToken": {"id": token, "type_id": 0}}
    text: JsonObject = {"Sequence": {"id": "A", "type_id": 0}}
    tokens: JsonObject = {token: {"id": token, "ids": [index], "tokens": [token]}}
    return {"type": "TemplateProcessing", "single": [start, text], "pair": [], "special_tokens": tokens}
