"""Bases from the Hugging Face hub: found in its cache, or downloaded.

What cannot be tuned is refused before its gigabytes are downloaded. Code and pickled weights are never downloaded. An
interrupted download continues where it stopped.
"""

import shutil
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeAlias

from tunesmith.errors import InvalidRequest, ServerFault, TunesmithError
from tunesmith.models.base_check import check_base, check_config, unusable

Started: TypeAlias = Callable[[Path, int | None], None]  # the folder that grows now, and its bytes in the end if known

PATTERNS = ("*.json", "*.safetensors", "*.jinja")
LEFT_OUT = ("*/*", "consolidated*")  # other formats of the same weights


class HubUnreachable(ServerFault):
    """No network, or the hub does not answer as it should."""


def find_snapshot(repository: str) -> Path | None:
    """The repository's files in the hub's cache, perhaps not all; None without any."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repository, allow_patterns=[*PATTERNS], ignore_patterns=[*LEFT_OUT], local_files_only=True
        )
    except (LocalEntryNotFoundError, ValueError):  # ValueError: no id of the hub
        return None
    return Path(folder)


def config_folder(repository: str) -> Path | None:
    """The folder of the repository's config.json, if that alone is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def has_snapshot(repository: str) -> bool:
    """Whether a usable base is in the hub's cache."""
    folder = find_snapshot(repository)
    try:
        check_base(folder or Path("/nowhere"), repository)
    except InvalidRequest:
        return False
    return True


def download(repository: str, name: str, started: Started) -> Path:
    """The directory of the repository's newest files; downloads missing ones.

    Raises InvalidRequest where the repository cannot be used or had, and HubUnreachable without a network.
    """
    try:
        return _download(repository, name, started)
    except TunesmithError:
        raise
    except Exception as error:
        raise _explained(error, repository, name) from error


def _download(repository: str, name: str, started: Started) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # ours counts all files together
    info = HfApi().model_info(repository, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    _check_listing(sizes, name)
    check_config(Path(snapshot_download(repository, allow_patterns=["config.json"])), name)
    wanted = sum(size for file, size in sizes.items() if _is_wanted(file))
    cache = Path(HF_HUB_CACHE)
    blobs = cache / f"models--{repository.replace('/', '--')}" / "blobs"
    _check_room(wanted, blobs, name)
    started(blobs, wanted)
    return Path(snapshot_download(repository, allow_patterns=[*PATTERNS], ignore_patterns=[*LEFT_OUT]))


def _is_wanted(file: str) -> bool:
    return any(fnmatch(file, one) for one in PATTERNS) and not any(fnmatch(file, one) for one in LEFT_OUT)


def _check_listing(files: Mapping[str, int], name: str) -> None:
    """Says what the repository lacks. Raises InvalidRequest."""
    weights = [file for file in files if _is_wanted(file) and file.endswith(".safetensors")]
    missing = [file for file in ("config.json", "tokenizer.json", "tokenizer_config.json") if file not in files]
    if weights and not missing:
        return
    if not weights and any(file.endswith(".gguf") for file in files):
        raise unusable(name, "its repository has GGUF files only. Take the repository that they were made from")
    if not weights and any(file.endswith((".bin", ".pt", ".pth")) for file in files):
        raise unusable(name, "its repository has pickled weights (*.bin) only, which are not read; *.safetensors are")
    if "adapter_config.json" in files:
        raise unusable(name, "its repository holds a LoRA adapter, not a base")
    missing += [] if weights else ["*.safetensors"]
    raise unusable(name, f"its repository has no {' and no '.join(missing)}")


def _check_room(wanted: int, blobs: Path, name: str) -> None:
    there = sum(path.stat().st_size for path in blobs.iterdir()) if blobs.is_dir() else 0
    place = next(path for path in (blobs, *blobs.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if wanted - there > free:
        raise ServerFault(
            f"{name} takes {(wanted - there) / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free. Free some, or set"
            " HF_HOME to a folder on another disk.",
            code="disk_full",
        )


def _explained(error: Exception, repository: str, name: str) -> TunesmithError:
    """The hub's error as a sentence with what to do."""
    reason = _refusal(error, repository)
    if reason is not None:
        return unusable(name, reason)
    if isinstance(error, OSError) and error.errno is not None:
        return ServerFault(f"Could not store {name} in the hub's cache: {error.strerror}.", code="cache_not_writable")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return HubUnreachable(f"The Hugging Face hub answered {status} for {repository}; try again later.")
    return HubUnreachable(
        f"Could not reach the Hugging Face hub for {repository} ({_last_line(error)}). Check the network (HTTPS_PROXY,"
        f" HF_ENDPOINT, HF_HUB_OFFLINE), or copy the files here: tunesmith models add {name} ABSOLUTE_PATH"
    )


def _refusal(error: Exception, repository: str) -> str | None:
    """Why the hub does not give the repository; None for an error of another kind."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated. Accept its terms at https://huggingface.co/{repository}, then log in here (hf auth"
            " login, or HF_TOKEN in the environment)"
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return (
            f"there is no repository {repository} on the Hugging Face hub, or it is private. Check the spelling; for a"
            " private one log in (hf auth login); for a directory give its absolute path"
        )
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return (
            f"the Hugging Face hub refuses access to {repository} ({error.response.status_code}). Log in here (hf auth"
            " login), or correct HF_TOKEN"
        )
    return None


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip().removesuffix(".")
