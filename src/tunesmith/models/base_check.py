"""Whether a directory can be used as a base, told without loading its weights.

A job is refused with these sentences when it is created, instead of failing after its file was checked. They name no
path: a client of the API sees them too.

What its files may say is in `base_rules`. What is not covered: a tokenizer that the `tokenizers` library cannot read,
and tensors with wrong values.
"""

import json
from functools import lru_cache
from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.families.support import unsupported
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.base_rules import bad_index, bad_sizes, bad_vocabulary, outside, runs_code
from tunesmith.models.headers.safetensors_header import BadHeader, Tensor, read_header

LFS_POINTER = b"version https://git-lfs"
REPACK = "python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('.').save_pretrained('.')\""
CONVERT = "python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('.').save_pretrained('.')\""


def check_base(directory: Path, name: str) -> None:
    """Raises InvalidRequest (`base_not_usable`) saying why `directory` is no base."""
    reason = (
        _place(directory) or outside(directory) or _config(directory) or _tokenizer(directory) or _weights(directory)
    )
    if reason is not None:
        raise unusable(name, reason)


def check_config(directory: Path, name: str) -> None:
    """Like `check_base`, for a directory that has its config.json only."""
    reason = _config(directory)
    if reason is not None:
        raise unusable(name, reason)


def unusable(name: str, reason: str) -> InvalidRequest:
    """The error for the base `name`; `reason` is a sentence without its period."""
    return InvalidRequest(f"Base {name} cannot be used: {reason}.", param="model", code="base_not_usable")


def relative_place(where: str, whole: Path | None = None, *, hub_id: bool = False) -> str:
    """What is wrong with the relative path `where` in the setting `bases`.

    `hub_id`: it reads like one, such as `models/mine`. `whole`: the path to write instead, which only those may see who
    sit at this machine.
    """
    read_as = "is neither a hub id (OWNER/NAME) nor an absolute path"
    if hub_id:
        read_as = "is taken for a repository of the Hugging Face hub (OWNER/NAME), but there is a directory called so"
    return (
        f"{where!r} in the setting `bases` {read_as}. Write the whole path{f', {whole}' if whole else ''}: the server"
        " and a command may run in different directories"
    )


def _place(directory: Path) -> str | None:
    if not directory.is_absolute():
        return relative_place(str(directory))
    if directory.is_file():
        if directory.suffix == ".gguf":
            return "it is a GGUF file. Add it by its whole path: tunesmith models add NAME --from FILE.gguf"
        return "it is a file, not a Hugging Face directory"
    if not directory.is_dir():
        return "its directory does not exist"
    return None


def _config(directory: Path) -> str | None:
    path = directory / "config.json"
    if not path.is_file():
        if (directory / "adapter_config.json").is_file():
            return "it is a LoRA adapter (adapter_config.json), not a base: its directory has no config.json"
        return f"its directory has no config.json, so it is not a usable Hugging Face directory{_gguf_files(directory)}"
    config = _read_object(path)
    if config is None:
        return "its config.json is not a JSON object: download it again"
    if (path.parent / "adapter_config.json").is_file():
        return "its directory has an adapter_config.json too, which names another base. Move that file elsewhere"
    return unsupported(config) or runs_code(config)


def _tokenizer(directory: Path) -> str | None:
    path = directory / "tokenizer.json"
    if not path.is_file():
        others = [name for name in ("tokenizer.model", "vocab.json", "spiece.model") if (directory / name).is_file()]
        cure = f" but {others[0]}. Convert it there: {CONVERT}" if others else ". Copy the tokenizer's files to it"
        return f"its directory has no tokenizer.json{cure}"
    if not (directory / "tokenizer_config.json").is_file():
        return "its directory has no tokenizer_config.json, which names its special tokens. Copy that file to it"
    for name in ("tokenizer_config.json", "generation_config.json"):
        if (directory / name).is_file() and _read_object(directory / name) is None:
            return f"its {name} is not a JSON object: download it again"
    stat = path.stat()
    return _tokenizer_fault(path, stat.st_mtime_ns, stat.st_size)


def _weights(directory: Path) -> str | None:
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        pickled = any(next(directory.glob(pattern), None) for pattern in ("*.bin", "*.pt", "*.pth"))
        rest = (
            f". Pickled weights (*.bin) are not read: convert them to safetensors first. There: {REPACK}"
            if pickled
            else ""
        )
        return f"its directory has no weights (*.safetensors){rest or _gguf_files(directory)}"
    index = directory / "model.safetensors.index.json"
    if index.is_file() and (wrong := bad_index(_read_object(index) or {})):
        return wrong
    missing = sorted(_listed_files(directory) - {file.name for file in files})
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"its weights are incomplete: {missing[0]}{more} of model.safetensors.index.json is missing"
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= read_header(file)
        except BadHeader as fault:
            return f"{file.name} is {_damage(file)} ({fault})"
    return bad_sizes(_read_object(directory / "config.json") or {}, tensors)


def _gguf_files(directory: Path) -> str:
    if next(directory.glob("*.gguf"), None) is None:
        return ""
    return (
        ". Of GGUF files one is a base, not their directory (tunesmith models add NAME --from FILE.gguf); or take the"
        " model's repository with *.safetensors"
    )


def _listed_files(directory: Path) -> set[str]:
    """The weight files that the index names; none without an index."""
    index = _read_object(directory / "model.safetensors.index.json") or {}
    places = index.get("weight_map")
    return {str(place) for place in places.values()} if isinstance(places, dict) else set()


def _damage(path: Path) -> str:
    with path.open("rb") as handle:
        if handle.read(len(LFS_POINTER)) == LFS_POINTER:
            return "a Git LFS pointer instead of the file: run `git lfs pull` in the repository"
    return "damaged or incomplete: download it again"


@lru_cache(maxsize=16)  # megabytes of JSON; a changed file is read again
def _tokenizer_fault(path: Path, _modified: int, _size: int) -> str | None:
    tokenizer = _read_object(path) or {}
    if not isinstance(tokenizer.get("model"), dict):
        return f"its tokenizer.json is {_damage(path)}"
    return bad_vocabulary(tokenizer)


def _read_object(path: Path) -> JsonObject | None:
    value = _parsed(path.read_bytes()) if path.is_file() else None
    return value if isinstance(value, dict) else None


def _parsed(data: bytes) -> JsonValue:
    try:
        value: JsonValue = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value
