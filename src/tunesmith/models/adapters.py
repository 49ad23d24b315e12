"""Adapters on disk: PEFT's two files, and our manifest.json.

The manifest is written last and atomically: an adapter exists if its manifest does. It names the base, the renderer and
the checksum of the tensors, so that serving can refuse what does not fit. Only safetensors and JSON are read. Fully
tuned models (`tuned.py`) have the same manifest.
"""

import json
import math
import re
from dataclasses import asdict, dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, StrictInt, TypeAdapter, ValidationError

from tunesmith import __version__
from tunesmith.errors import ServerFault, WeightsMissing
from tunesmith.settings import AdapterKind
from tunesmith.system.atomic_write import make_directories, write_atomically

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 1
CONFIG_FILE = "adapter_config.json"
TEXT_PARTS = ("language_model",)  # of bases that also take images: their other parts have layers of the same names
TENSORS_FILE = "adapter_model.safetensors"
MANIFEST_FILE = "manifest.json"
NO_ADAPTER = "none"  # in place of a digest: the weights of a base, nothing tuned


@dataclass(frozen=True, slots=True)
class AdapterManifest:
    """What an adapter was trained on, and how."""

    base_name: str
    base_fingerprint: str  # models.directory.fingerprint of the base it was trained on
    renderer: str  # render.renderer.Renderer.name at training
    rank: int
    alpha: float
    target_modules: tuple[str, ...]  # last part of their names, such as "q_proj"
    step: int
    sha256: str = ""  # of the tensors; filled in when they are written
    config_sha256: str = ""  # of adapter_config.json, likewise; "" in older manifests
    adapter: AdapterKind = "lora"  # "none": all weights were trained, and rank, alpha and target_modules mean nothing
    run: str = ""  # fingerprint of the run that wrote it: only that one may go on from it as from its own
    format_version: int = FORMAT_VERSION


class _Format(BaseModel):
    """The one key that every version of the manifest has."""

    format_version: StrictInt = FORMAT_VERSION


class _Config(BaseModel):
    """What of PEFT's file scales the tensors."""

    r: StrictInt = Field(ge=1)
    lora_alpha: float = Field(gt=0, allow_inf_nan=False)
    use_rslora: bool = False


_CONFIG = TypeAdapter(_Config)
_MANIFEST = TypeAdapter(AdapterManifest)


def write_adapter(
    directory: Path, tensors: "dict[str, torch.Tensor]", manifest: AdapterManifest, base: str | None = None
) -> AdapterManifest:
    """Writes the three files durably; returns the manifest with the checksum.

    `tensors`: by PEFT's names, `base_model.model.<module>.lora_A.weight` [rank, in] and `.lora_B.weight` [out, rank].
    `base`: what PEFT is to load as the base, if not the manifest's name for it.
    """
    from safetensors.torch import save

    make_directories(directory)
    data = save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, {"format": "pt"})
    part = next((part for part in TEXT_PARTS if any(f".{part}." in name for name in tensors)), None)
    config = _json(peft_config(manifest, base, part))
    finished = replace(manifest, sha256=sha256(data).hexdigest(), config_sha256=sha256(config).hexdigest())
    write_atomically(directory / TENSORS_FILE, data)
    write_atomically(directory / CONFIG_FILE, config)
    write_manifest(directory, finished)
    return finished


def write_manifest(directory: Path, manifest: AdapterManifest) -> None:
    """Writes the manifest durably; with this last file the directory is a tuned model."""
    write_atomically(directory / MANIFEST_FILE, _json(asdict(manifest)))


def peft_config(manifest: AdapterManifest, base: str | None = None, part: str | None = None) -> dict[str, object]:
    """The content of adapter_config.json, as PEFT reads it.

    `part`: the module of the base that has all adapted layers, where others have layers of the same names.
    """
    names = "|".join(re.escape(name) for name in manifest.target_modules)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base or manifest.base_name,
        "r": manifest.rank,
        "lora_alpha": manifest.alpha,
        "lora_dropout": 0.0,
        "target_modules": rf".*\b{part}\..*\.({names})" if part else list(manifest.target_modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }


def read_manifest(directory: Path) -> AdapterManifest:
    """The manifest of the tuned model in `directory`; unknown keys are ignored.

    Raises ServerFault if there is none, if it is malformed, or if its format is newer than this version's.
    """
    try:
        data = (directory / MANIFEST_FILE).read_bytes()
        _refuse_newer_format(data, directory)
        manifest = _MANIFEST.validate_json(data, strict=True)
    except OSError as error:
        raise _unreadable(directory, error, MANIFEST_FILE) from error
    except ValidationError as error:
        raise unusable_adapter(
            directory,
            f"This model has no usable adapter: its {MANIFEST_FILE} is damaged ({_faults(error)})."
            " Restore the file, or train again.",
        ) from error
    if manifest.adapter == "lora" and not (manifest.rank >= 1 and 0 < manifest.alpha < math.inf):
        raise unusable_adapter(
            directory,
            f"This model has no usable adapter: its {MANIFEST_FILE} is damaged (rank {manifest.rank} with alpha"
            f" {manifest.alpha}; both are above 0). Restore the file, or train again.",
        )
    return manifest


def _refuse_newer_format(data: bytes, directory: Path) -> None:
    """Checks the version first, since a newer format may differ in any other key."""
    version = _Format.model_validate_json(data).format_version
    if version > FORMAT_VERSION:
        raise unusable_adapter(
            directory,
            f"This model's adapter has format version {version} (in {MANIFEST_FILE}); this Tunesmith"
            f" ({__version__}) reads versions up to {FORMAT_VERSION}. Update Tunesmith, or train again with this one.",
        )


def unusable_adapter(directory: Path, message: str) -> ServerFault:
    """The error for an adapter that cannot be used.

    Clients of the API see the message, so the directory is only in the log, as a note of the exception.
    """
    return _with_place(ServerFault(message), directory)


def missing_file(directory: Path, file: str, what: str = "adapter") -> ServerFault:
    """The error for a tuned model without one of its files."""
    text = f"This model has no usable {what}: its {file} is missing. Restore the file, or train again."
    return _with_place(WeightsMissing(text, param="model", code="model_without_weights"), directory)


def _unreadable(directory: Path, error: OSError, file: str) -> ServerFault:
    """The error for a file that is missing, or that the system does not read."""
    if isinstance(error, FileNotFoundError):
        return missing_file(directory, file)
    return unusable_adapter(
        directory, f"This model has no usable adapter: its {file} cannot be read ({error.strerror})."
    )


def _with_place(error: ServerFault, directory: Path) -> ServerFault:
    error.add_note(f"The adapter's files: {directory}")
    return error


def _faults(error: ValidationError) -> str:
    """Which keys are wrong, and how: "rank: Field required"."""
    faults = ((".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors(include_url=False))
    return "; ".join(f"{place}: {message}" if place else message for place, message in faults)


def load_tensors(directory: Path) -> "dict[str, torch.Tensor]":
    """The adapter's tensors on the CPU, mapped from the file and read when used.

    Raises ServerFault if the file is missing or does not match the manifest.
    """
    from safetensors.torch import load_file

    check_tensors(directory)
    return load_file(directory / TENSORS_FILE)


def check_tensors(directory: Path) -> None:
    """Raises ServerFault if the tensors are missing or do not match the manifest."""
    try:
        with (directory / TENSORS_FILE).open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(directory, error, TENSORS_FILE) from error
    manifest = read_manifest(directory)
    if digest != manifest.sha256:
        raise unusable_adapter(
            directory,
            f"This model's {TENSORS_FILE} does not match its manifest: the file was changed or damaged. Restore it, or"
            " train again.",
        )
    _check_config(directory, manifest)


def _check_config(directory: Path, manifest: AdapterManifest) -> None:
    """Raises ServerFault if adapter_config.json is not the one of the manifest.

    The manifest of an older version has no digest of it: then rank and alpha, which scale the tensors, must agree.
    """
    try:
        data = (directory / CONFIG_FILE).read_bytes()
        config = _CONFIG.validate_json(data)
    except OSError as error:
        raise _unreadable(directory, error, CONFIG_FILE) from error
    except ValidationError as error:
        raise unusable_adapter(
            directory,
            f"This model has no usable adapter: its {CONFIG_FILE} is damaged ({_faults(error)}). Restore the file, or"
            " train again.",
        ) from error
    scaled = (config.r, config.lora_alpha) == (manifest.rank, manifest.alpha) and not config.use_rslora
    same = not manifest.config_sha256 or sha256(data).hexdigest() == manifest.config_sha256
    if not (scaled and same):
        raise unusable_adapter(
            directory,
            f"This model's {CONFIG_FILE} does not match its manifest: the file was changed or damaged. Restore it, or"
            " train again.",
        )


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
