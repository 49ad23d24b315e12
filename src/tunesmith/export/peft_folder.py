"""The adapter for PEFT: its two files, and tuned weights below it."""

import json
import shutil
from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.export.merged import Told
from tunesmith.export.tuned_model import OURS, TunedModel, side_files
from tunesmith.models.adapters import CONFIG_FILE, TENSORS_FILE
from tunesmith.models.tuned import BASE_DIR


def check_adapter(model: TunedModel) -> None:
    """Raises InvalidRequest where there is no adapter to export."""
    if not model.is_adapter:
        raise InvalidRequest(
            f"All weights of {model.name} were trained: it has no adapter. Export its weights: --to safetensors"
        )


def peft_bytes(model: TunedModel) -> int:
    """How many bytes `write_peft` writes."""
    return sum(file.stat().st_size for file in _files(model))


def write_peft(model: TunedModel, folder: Path, told: Told) -> None:
    """Writes the adapter with a config that names its base."""
    told("writing the adapter")
    config = json.loads((model.directory / CONFIG_FILE).read_text("utf-8"))
    if not model.has_own_base:
        config["base_model_name_or_path"] = model.base_source
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")
    for file in _files(model):
        target = (
            folder / file.relative_to(model.directory) if file.is_relative_to(model.directory) else folder / file.name
        )
        target.parent.mkdir(exist_ok=True)
        if file.name != CONFIG_FILE:
            shutil.copyfile(file, target)


def _files(model: TunedModel) -> list[Path]:
    """The adapter, and the tokenizer: that of the tuned weights below it, or beside it."""
    adapter = [model.directory / CONFIG_FILE, model.directory / TENSORS_FILE]
    if model.has_own_base:
        return adapter + [file for file in sorted((model.directory / BASE_DIR).iterdir()) if file.name not in OURS]
    tokenizer = [file for file in side_files(model.base_dir) if _is_tokenizer(file.name)]
    return [*adapter, *tokenizer]


def _is_tokenizer(name: str) -> bool:
    words = ("tokenizer", "chat_template", "special_tokens", "added_tokens", "vocab", "merges")
    return name.startswith(words)
