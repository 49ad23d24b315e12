"""Tuned models with weights of their own, and adapters trained on them.

    DIR/model.safetensors, config.json, tokenizer…, manifest.json      all weights (manifest: adapter "none")
    DIR/adapter_model.safetensors, …, DIR/base/…                       a LoRA, and the tuned weights below it as links

Both are Hugging Face directories that other tools can load. The links share the bytes on disk with the model that the
LoRA was trained on; deleting either leaves the other intact.
"""

import json
import os
import shutil
from dataclasses import replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import ServerFault
from tunesmith.families.table import WHOLES
from tunesmith.models.adapters import (
    MANIFEST_FILE,
    AdapterManifest,
    check_tensors,
    missing_file,
    read_manifest,
    write_manifest,
)
from tunesmith.system.atomic_write import make_directories, sync

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

BASE_DIR = "base"
# Not of the next training on its weights:
OF_ONE_TRAINING = (MANIFEST_FILE, "answers.json", "card.json", "evaluation.json", "display.json")
OTHER_NUMBERS = ("torch_dtype", "quantization_config")  # how the base's weights were written, and these are not


def own_base(directory: Path) -> Path | None:
    """The directory of the model's own weights; None if it uses its base model's."""
    for place in (directory, directory / BASE_DIR):
        if (place / "config.json").is_file():
            return place
    return None


def require_files(directory: Path) -> None:
    """Raises WeightsMissing where tuned weights lack what every base has."""
    for file in ("config.json", "tokenizer.json", "*.safetensors"):
        if next(directory.glob(file), None) is None:
            raise missing_file(directory, file, "weights")


def write_model(
    directory: Path,
    model: "PreTrainedModel",
    base_dir: Path,
    manifest: AdapterManifest,
    state: "dict[str, Tensor] | None" = None,
) -> None:
    """Writes all weights in float32, durably, the manifest last.

    The tokenizer and templates are those of `base_dir`. `state`: the weights by name; None: those of `model`.
    """
    make_directories(directory)
    model.save_pretrained(directory, state_dict=state)
    config = json.loads((base_dir / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") in WHOLES:  # only the base's text model is tuned, and it stands alone
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    for path in directory.iterdir():  # the base's own files are copied instead of what transformers wrote
        if path.suffix == ".json" and not path.name.endswith(".index.json"):
            path.unlink()
    for path in base_dir.iterdir():
        own = path.name in ("config.json", *OF_ONE_TRAINING) or path.name.endswith(".index.json")
        if path.suffix in (".json", ".jinja", ".model") and not own:
            shutil.copyfile(path, directory / path.name)
    config = {**{key: value for key, value in config.items() if key not in OTHER_NUMBERS}, "dtype": "float32"}
    (directory / "config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")
    for path in directory.iterdir():
        sync(path)
    write_manifest(directory, replace(manifest, sha256=_weights_sha256(directory)))


def link_base(base_dir: Path, directory: Path) -> str:
    """Links the tuned weights in `base_dir` beside an adapter; returns their path.

    The path is relative to `directory`, where the adapter is.
    """
    link_files(base_dir, directory / BASE_DIR)
    return f"./{BASE_DIR}"


def link_files(directory: Path, target: Path) -> None:
    """Links a tuned model's files to `target`, the manifest last; copies no bytes."""
    make_directories(target)
    (target / MANIFEST_FILE).unlink(missing_ok=True)
    for path in sorted(directory.iterdir(), key=lambda path: path.name == MANIFEST_FILE):
        if path.is_dir():
            link_files(path, target / path.name)
        else:
            _link_or_copy(path, target / path.name)
    sync(target)


def check_weights(directory: Path) -> None:
    """Raises ServerFault if a tuned model's weights do not match its manifest."""
    manifest = read_manifest(directory)
    if manifest.adapter == "lora":
        check_tensors(directory)
    elif manifest.sha256 != _weights_sha256(directory):
        raise ServerFault(f"The weights in {directory} do not match its manifest: they were changed or damaged.")


def _link_or_copy(path: Path, target: Path) -> None:
    """Makes a hard link, or a copy where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
        sync(target)


def _weights_sha256(directory: Path) -> str:
    """The digest of the weight files' digests, in the order of their names."""
    whole = sha256()
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            whole.update(file_digest(file, "sha256").digest())
    return whole.hexdigest()
