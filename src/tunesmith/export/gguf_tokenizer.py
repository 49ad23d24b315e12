"""A base's tokenizer and chat template as the keys of a GGUF file.

llama.cpp has its own code for each rule that splits a text into words before the merges; a tokenizer.json whose rule is
none of those below is refused by name. What llama.cpp does not do: normalise texts to NFC, as Qwen's tokenizer does
(texts are in NFC nearly always).

What is not covered: SentencePiece vocabularies, whose scores tokenizer.json does not have.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.chat_template import find_template, generation_ends, read_object, special_tokens

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # GGUF's types of tokens
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = {  # the regular expressions of tokenizer.json -> llama.cpp's name for the rule
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}": "qwen2",
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}": "llama-bpe",
}
WHOLE_WORDS_FIRST = frozenset({"llama-bpe"})  # take a word that is in the vocabulary without merging


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """What a GGUF file says of a tokenizer."""

    rule: str  # how texts are split into words
    tokens: list[str]
    types: list[int]
    merges: list[str]
    bos: int | None
    eos: int
    eot: int | None  # ends a turn, where that is not `eos`
    pad: int | None
    unknown: int | None
    adds_bos: bool
    template: str | None


def read_tokenizer(base_dir: Path, vocabulary: int) -> GgufTokenizer:
    """The tokenizer of the base in `base_dir`, filled up to `vocabulary` tokens.

    Raises InvalidRequest naming what of it llama.cpp would do otherwise.
    """
    value = read_object(base_dir / "tokenizer.json")
    model = cast(JsonObject, value["model"])
    rule = _rule(value, model)
    ids = {**cast("dict[str, int]", model["vocab"])}
    added = [cast(JsonObject, one) for one in cast("list[JsonValue]", value.get("added_tokens") or [])]
    ids |= {str(one["content"]): cast(int, one["id"]) for one in added}
    tokens, types = _tokens(ids, added, max(vocabulary, len(ids)))
    named = special_tokens(read_object(base_dir / "tokenizer_config.json"))
    ends = generation_ends(base_dir)
    eos = ids.get(named.get("eos_token", ""), min(ends, default=0))
    template = find_template(base_dir)
    return GgufTokenizer(
        rule=rule,
        tokens=tokens,
        types=types,
        merges=[one if isinstance(one, str) else " ".join(cast("list[str]", one)) for one in _list(model["merges"])],
        bos=ids.get(named.get("bos_token", "")),
        eos=eos,
        eot=min(ends - {eos}, default=None),
        pad=ids.get(named.get("pad_token", "")),
        unknown=ids.get(named.get("unk_token", "")),
        adds_bos=_adds(base_dir, named.get("bos_token")),
        template=None if template is None else template.text,
    )


def _rule(value: JsonObject, model: JsonObject) -> str:
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = "SentencePiece" if model.get("byte_fallback") else str(model.get("type"))
        raise _refused(f"its tokenizer is {kind}, not byte-level BPE")
    if _type(value.get("normalizer")) not in (None, "NFC"):
        raise _refused(f"its tokenizer changes texts first ({_type(value.get('normalizer'))})")
    rule = _split_rule(value.get("pre_tokenizer"))
    if rule is None:
        raise _refused(f"no rule of llama.cpp that is known here splits texts as its tokenizer does: {_shown(value)}")
    if bool(model.get("ignore_merges")) != (rule in WHOLE_WORDS_FIRST):
        raise _refused(f"its tokenizer has ignore_merges {model.get('ignore_merges')}, and llama.cpp's {rule} has not")
    return rule


def _split_rule(pre: JsonValue) -> str | None:
    parts = _list(pre.get("pretokenizers")) if isinstance(pre, dict) and pre.get("type") == "Sequence" else [pre]
    found = [one for one in parts if isinstance(one, dict)]
    kinds = [str(one.get("type")) for one in found]
    if kinds not in (["ByteLevel"], ["Digits", "ByteLevel"], ["Split", "ByteLevel"]) or found[-1]["add_prefix_space"]:
        return None
    whole = bool(found[-1].get("use_regex"))  # whether the byte level splits as GPT-2 does
    if kinds[0] == "Split":
        pattern = cast(JsonObject, found[0]["pattern"]).get("Regex")
        isolated = found[0].get("behavior") == "Isolated" and not found[0].get("invert")
        return WORDS.get(str(pattern)) if isolated and not whole else None
    if kinds[0] == "Digits":
        return "smollm" if whole and found[0].get("individual_digits") else None
    return "gpt-2" if whole else None


def _tokens(ids: dict[str, int], added: list[JsonObject], size: int) -> tuple[list[str], list[int]]:
    tokens, types = [f"[PAD{index}]" for index in range(size)], [UNUSED] * size
    for token, index in ids.items():
        tokens[index], types[index] = token, NORMAL
    for one in added:
        types[cast(int, one["id"])] = CONTROL if one.get("special") else USER_DEFINED
    return tokens, types


def _adds(base_dir: Path, bos: str | None) -> bool:
    """Whether the tokenizer begins a text with its begin-of-text token."""
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(base_dir / "tokenizer.json")).encode("a")
    return bos is not None and ids.tokens[:1] == [bos]


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"This base cannot be written as GGUF here: {reason}. Export the merged weights (--to safetensors) and convert"
        " them with llama.cpp's own converter."
    )


def _shown(value: JsonObject) -> str:
    return json.dumps(value.get("pre_tokenizer"), ensure_ascii=False)[:300]


def _type(value: JsonValue) -> str | None:
    return str(value.get("type")) if isinstance(value, dict) else None


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
