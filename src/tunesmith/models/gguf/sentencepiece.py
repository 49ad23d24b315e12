"""tokenizer.json of SentencePiece's BPE.

The pair whose piece has the best score is joined first.
"""

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.gguf.gguf_model import GgufModel
from tunesmith.models.gguf.metadata import Metadata
from tunesmith.models.gguf.tokens import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, added_token

SPACE = "▁"


def sentencepiece_tokenizer(model: GgufModel) -> JsonObject:
    """All but the post-processor."""
    metadata = model.metadata
    tokens, kinds = metadata.strings("tokenizer.ggml.tokens"), metadata.integers("tokenizer.ggml.token_type")
    prefixed = bool(metadata.get("tokenizer.ggml.add_space_prefix", not model.architecture.startswith("gemma")))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, kinds),
        "normalizer": _normalizer(prefixed=prefixed),
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": _decoders(prefixed=prefixed)},
        "model": _model(metadata, tokens, kinds),
    }


def _normalizer(*, prefixed: bool) -> JsonObject:
    """Blanks as SentencePiece writes them; `prefixed`: each text and what follows a special token begins with one."""
    replaced: JsonObject = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    return (
        {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replaced]} if prefixed else replaced
    )


def _decoders(*, prefixed: bool) -> list[JsonValue]:
    replaced: JsonObject = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    stripped: JsonObject = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return [replaced, {"type": "ByteFallback"}, {"type": "Fuse"}, *([stripped] if prefixed else [])]


def _added(tokens: list[str], kinds: list[int]) -> list[JsonValue]:
    """Special tokens, and those that are found once spaces were replaced, as SentencePiece does."""
    found: list[JsonValue] = []
    for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind in (CONTROL, UNKNOWN):
            found.append(added_token(index, token))
        elif kind == USER_DEFINED:
            found.append(added_token(index, token, special=False, normalized=True))
    return found


def _model(metadata: Metadata, tokens: list[str], kinds: list[int]) -> JsonObject:
    scored = zip(tokens, kinds, metadata.numbers("tokenizer.ggml.scores"), strict=True)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": tokens[metadata.integer("tokenizer.ggml.unknown_token_id", 0)],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": _merges({token: score for token, kind, score in scored if kind == NORMAL}),
    }


def _merges(scores: dict[str, float]) -> list[JsonValue]:
    """The pairs of pieces that make a piece, best score of the result first."""
    pairs = [
        (-score, token[:cut], token[cut:])
        for token, score in scores.items()
        for cut in range(1, len(token))
        if token[:cut] in scores and token[cut:] in scores
    ]
    pairs.sort(key=lambda pair: pair[0])  # stable: of one piece the shortest beginning first
    return [[left, right] for _, left, right in pairs]
