"""The folder of an embedding model, of sentence-transformers or transformers.

Not covered: modules that change an embedding further, such as `Dense`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject, JsonValue

KNOWN = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder says of its model."""

    transformer: Path
    pooling: Literal["mean", "cls"]
    max_tokens: int | None
    lower_case: bool


def read_layout(directory: Path) -> Layout:
    """How the model is laid out.

    Raises ServerFault for a folder that holds no model that can be used here.
    """
    folders: dict[str, Path] = {}
    modules = directory / "modules.json"
    for module in cast(list[JsonObject], _read(directory, modules)) if modules.exists() else []:
        kind = str(module["type"]).rpartition(".")[2]
        if kind not in KNOWN:
            raise unusable(directory, f"it has a module {kind}, which is not known here")
        folders[kind] = directory / str(module.get("path", ""))
    transformer = folders.get("Transformer", directory)
    if not (transformer / "config.json").is_file():
        raise unusable(directory, "there is no config.json in it")
    pooling = folders.get("Pooling")
    said = _object(directory, transformer / "sentence_bert_config.json")
    return Layout(
        transformer,
        "mean" if pooling is None else _pooling(directory, _object(directory, pooling / "config.json")),
        cast("int | None", said.get("max_seq_length")),
        bool(said.get("do_lower_case")),
    )


def unusable(directory: Path, reason: str) -> ServerFault:
    """The error of a folder that is no use, with what to do."""
    return ServerFault(
        f"The setting embedding_model names {directory}, and {reason}. Name a folder that sentence-transformers saved."
    )


def _pooling(directory: Path, config: Mapping[str, JsonValue]) -> Literal["mean", "cls"]:
    chosen = {name.removeprefix("pooling_mode_") for name, value in config.items() if value is True}
    chosen |= {str(config["pooling_mode"])} if "pooling_mode" in config else set()
    kinds = chosen & {
        "mean_tokens",
        "mean",
        "cls_token",
        "cls",
        "max_tokens",
        "max",
        "lasttoken",
        "weightedmean_tokens",
    }
    if kinds <= {"mean_tokens", "mean"}:
        return "mean"
    if kinds <= {"cls_token", "cls"}:
        return "cls"
    raise unusable(directory, f"its pooling ({', '.join(sorted(kinds))}) is neither mean nor cls")


def _object(directory: Path, path: Path) -> JsonObject:
    found = _read(directory, path) if path.exists() else {}
    return found if isinstance(found, dict) else {}


def _read(directory: Path, path: Path) -> JsonValue:
    try:
        found: JsonValue = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise unusable(directory, f"its {path.name} cannot be read") from error
    return found
