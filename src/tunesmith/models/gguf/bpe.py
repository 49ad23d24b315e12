"""tokenizer.json of a byte-level BPE, by the rule that a GGUF file names.

The rule says how texts are split into words. Source of the rules: llama.cpp's `llama-vocab.cpp`, in the form that their
authors' tokenizer.json has.
"""

from dataclasses import dataclass

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.gguf.metadata import Metadata
from tunesmith.models.gguf.tokens import ADDED, CONTROL, added_token

_ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CAPITALS, _SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE, _SIGNS = r"[^\r\n\p{L}\p{N}]?", r" ?[^\s\p{L}\p{N}]+"
_LLAMA3 = rf"{_ENDS}|{_BEFORE}\p{{L}}+|\p{{N}}{{1,3}}|{_SIGNS}[\r\n]*|{_REST}"
_QWEN2 = rf"{_ENDS}|{_BEFORE}\p{{L}}+|\p{{N}}|{_SIGNS}[\r\n]*|{_REST}"
_TEKKEN = rf"{_BEFORE}{_CAPITALS}*{_SMALL}+|{_BEFORE}{_CAPITALS}+{_SMALL}*|\p{{N}}|{_SIGNS}[\r\n/]*|{_REST}"
_O200K = (
    rf"{_BEFORE}{_CAPITALS}*{_SMALL}+{_ENDS}?|{_BEFORE}{_CAPITALS}+{_SMALL}*{_ENDS}?"
    rf"|\p{{N}}{{1,3}}|{_SIGNS}[\r\n/]*|{_REST}"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """How texts become words. `pattern` "": as GPT-2 has it."""

    pattern: str = ""
    digits: bool = False  # each digit is a word
    whole: bool = False  # a word that is a token is never made of pieces
    composed: bool = False  # texts are brought into Unicode's composed form first
    begins: bool = False  # a text begins with a token of its own, unless the file says otherwise


RULES = {
    **dict.fromkeys(("smollm", "starcoder", "refact"), Rule(digits=True)),
    **dict.fromkeys(("gpt-2", "phi-2"), Rule()),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), Rule(_LLAMA3, whole=True, begins=True)),
    **dict.fromkeys(("dbrx", "smaug-bpe"), Rule(_LLAMA3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), Rule(_QWEN2, composed=True)),
    "tekken": Rule(_TEKKEN, whole=True, begins=True),
    "gpt-4o": Rule(_O200K),
}


def rule_of(metadata: Metadata) -> Rule:
    """The rule that the file names.

    Raises InvalidRequest for one that is not read.
    """
    name = str(metadata.get("tokenizer.ggml.pre"))
    if name not in RULES:
        raise InvalidRequest(
            f"GGUF tokenizer 'gpt2'/{name!r} is not supported (of gpt2: {', '.join(RULES)}). Use the model's Hugging"
            " Face directory instead."
        )
    return RULES[name]


def bpe_tokenizer(metadata: Metadata) -> JsonObject:
    """All but the post-processor."""
    rule = rule_of(metadata)
    tokens, types = metadata.strings("tokenizer.ggml.tokens"), metadata.integers("tokenizer.ggml.token_type")
    kinds = enumerate(zip(tokens, types, strict=True))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added_token(index, token, special=kind == CONTROL) for index, (token, kind) in kinds if kind in ADDED
        ],
        "normalizer": {"type": "NFC"} if rule.composed else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _splits(rule)},
        "post_processor": None,
        "decoder": _byte_level(add_prefix_space=True),
        "model": _bpe(tokens, metadata.strings("tokenizer.ggml.merges"), whole=rule.whole),
    }


def _splits(rule: Rule) -> list[JsonValue]:
    if rule.pattern:
        split: JsonObject = {
            "type": "Split", "pattern": {"Regex": rule.pattern}, "behavior": "Isolated", "invert": False,
        }  # fmt: skip
        return [split, _byte_level(add_prefix_space=False) | {"use_regex": False}]
    digits: JsonObject = {"type": "Digits", "individual_digits": True}
    return [*([digits] if rule.digits else []), _byte_level(add_prefix_space=False)]


def _byte_level(*, add_prefix_space: bool) -> JsonObject:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}


def _bpe(tokens: list[str], merges: list[str], *, whole: bool) -> JsonObject:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": whole,
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": [list(merge.split(" ")) for merge in merges],
    }
