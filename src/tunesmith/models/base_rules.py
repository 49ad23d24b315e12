"""What a base's files may say.

They come from strangers, and libraries believe them.
Nothing is loaded from outside the directory, no code is fetched or run, and no size is believed that the weights do not
have. Each rule gives the end of a sentence.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.headers.safetensors_header import Tensor

READ = ("*.safetensors", "*.json", "*.jinja")
MOST_BYTES = {"tokenizer.json": 256 << 20, "model.safetensors.index.json": 64 << 20}
MOST_JSON = 16 << 20  # bytes of any other of its JSON files
MOST_TOKENS, MOST_ADDED, MOST_CONTEXT = 4_000_000, 100_000, 1 << 27
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "")
# transformers takes the name of a repository here, whose kernels it downloads and runs.
_ATTENTION_KEY = re.compile(r"_?(attn|experts)_implementation(_internal)?")
_WEIGHTS = re.compile(r"[\w.-]+\.safetensors", re.ASCII)
_LAYER = re.compile(r"\.(\d+)\.")
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "vocab_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "num_experts",
    "num_local_experts",
    "moe_intermediate_size",
)


def outside(directory: Path) -> str | None:
    """Which file of the base lies elsewhere, or is too large for its name."""
    home = directory.resolve()
    # In the hub's cache, `models--OWNER--NAME/snapshots/COMMIT/FILE` are links to `models--OWNER--NAME/blobs/`.
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    for path in (path for pattern in READ for path in sorted(directory.glob(pattern))):
        if path.is_symlink() and path.resolve().parent not in (home, blobs):
            return f"{path.name} is a link to a file outside its directory. Copy the file there, or make a hard link"
        if not path.is_file():
            return f"{path.name} is not a file"
        most = MOST_BYTES.get(path.name, MOST_JSON)
        if path.suffix != ".safetensors" and path.stat().st_size > most:
            return f"{path.name} has {path.stat().st_size:,} bytes; at most {most:,} are read"
    return None


def bad_index(index: JsonObject) -> str | None:
    """What the index of the weights names besides files of its directory."""
    places = index.get("weight_map")
    if not isinstance(places, dict):
        return "its model.safetensors.index.json has no weight_map"
    wrong = next((place for place in places.values() if not _is_weight_file(place)), None)
    if wrong is None:
        return None
    convert = " Pickled weights can run code: convert them to safetensors" if str(wrong).endswith(_PICKLED) else ""
    return (
        f"its model.safetensors.index.json names {str(wrong)[:100]!r}, and only *.safetensors of its own directory are"
        f" loaded{'.' + convert if convert else ''}"
    )


def runs_code(config: JsonObject) -> str | None:
    """What of config.json would make transformers fetch or run code."""
    for key, value in _members(config):
        if _ATTENTION_KEY.fullmatch(key) and not all(one in ATTENTION for one in _texts(value)):
            return f"its config.json has {key} {str(value)[:100]!r}: code from elsewhere is never run. Remove the key"
    return None


def bad_sizes(config: JsonObject, tensors: Mapping[str, Tensor]) -> str | None:
    """Which size of config.json the weights do not have."""
    largest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    for key in _SIZES:
        value = config.get(key)
        if value is not None and not (type(value) is int and 1 <= value <= largest):
            return f"its config.json has {key} {str(value)[:40]}, and its largest tensor is {largest:,} wide"
    heads, kv_heads = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(kv_heads, int) and heads % kv_heads:
        return (
            f"its config.json has num_attention_heads {heads}, which is no multiple of num_key_value_heads {kv_heads}"
        )
    layers, context = config.get("num_hidden_layers"), config.get("max_position_embeddings")
    there = {found[1] for name in tensors if (found := _LAYER.search(name))}
    if not (type(layers) is int and layers >= 1 and (layers <= len(there) or not there)):
        return f"its config.json has num_hidden_layers {str(layers)[:40]}, and there are weights of {len(there)}"
    if not (type(context) is int and 1 <= context <= MOST_CONTEXT):
        return f"its config.json has max_position_embeddings {str(context)[:40]}, which is no context length"
    return None


def bad_vocabulary(tokenizer: JsonObject) -> str | None:
    """What of tokenizer.json takes memory without end."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    added = tokenizer.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MOST_ADDED:
        return f"its tokenizer.json has no list of at most {MOST_ADDED:,} added_tokens"
    ids: list[JsonValue] = [token.get("id") if isinstance(token, dict) else None for token in added]
    ids += vocabulary.values() if isinstance(vocabulary, dict) else []
    if len(ids) + (len(vocabulary) if isinstance(vocabulary, list) else 0) > MOST_TOKENS:
        return f"its tokenizer.json has more than {MOST_TOKENS:,} tokens"
    wrong = next((one for one in ids if not (type(one) is int and 0 <= one < MOST_TOKENS)), 0)
    return None if wrong == 0 else f"its tokenizer.json has a token with the id {str(wrong)[:40]}"


_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def _is_weight_file(place: JsonValue) -> bool:
    return isinstance(place, str) and _WEIGHTS.fullmatch(place) is not None and not place.startswith(".")


def _members(value: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    """All keys at all levels."""
    waiting: list[JsonValue] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _texts(value: JsonValue) -> Iterable[str]:
    if isinstance(value, dict):
        return [str(one) for one in value.values()]
    return [] if value is None else [str(value)]
