"""Bases from the Hugging Face hub: found in its cache, or downloaded.

What cannot be tuned is refused before its gigabytes are downloaded. Code and pickled weights are never downloaded. An
interrupted download continues where it stopped.
"""

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tunesmith.errors import InvalidRequest, ServerFault, TunesmithError
from tunesmith.models.base_check import check_base, check_config, unusable
from tunesmith.models.registry import HubRepository
from tunesmith.system.atomic_write import sha256_of

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

FETCHING, CHECKING, CONVERTING = "Fetching", "Checking the file of", "Converting"  # the steps that are told of
PATTERNS = ("*.json", "*.safetensors", "*.jinja")
LEFT_OUT = ("*/*", "consolidated*")  # other formats of the same weights


class Started(Protocol):
    """Is told of a step that begins.

    `folder`: the one that grows now, if any. `total`: its bytes in the end, if known.
    """

    def __call__(self, folder: Path | None, total: int | None, step: str = FETCHING) -> None:
        """A step begins."""


class HubUnreachable(ServerFault):
    """No network, or the hub does not answer as it should."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: its bytes, and the digest that the hub lists.

    "" where it lists none. `sha256` is of files in large storage, `git` (SHA-1 of a Git blob) of the others.
    """

    size: int
    sha256: str = ""
    git: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one commit; `files` are those that a base is made of.

    `parameters` and `licence` are what the hub says of them, None where it is silent.
    """

    repository: str
    revision: str
    files: Mapping[str, RemoteFile]
    licence: str | None = None
    parameters: int | None = None

    @property
    def size(self) -> int:
        """Bytes to download in all."""
        return sum(file.size for file in self.files.values())


def find_snapshot(source: HubRepository) -> Path | None:
    """The repository's files in the hub's cache, perhaps not all; None without any."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            source.repository,
            revision=source.revision or None,
            allow_patterns=[*PATTERNS],
            ignore_patterns=[*LEFT_OUT],
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, ValueError):  # ValueError: no id of the hub
        return None
    return Path(folder)


def config_folder(source: HubRepository) -> Path | None:
    """The folder of the repository's config.json, if that alone is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.repository, "config.json", revision=source.revision or None)
    return Path(found).parent if isinstance(found, str) else None


def has_snapshot(source: HubRepository) -> bool:
    """Whether a usable base is in the hub's cache."""
    folder = find_snapshot(source)
    try:
        check_base(folder or Path("/nowhere"), source.repository)
    except InvalidRequest:
        return False
    return True


def look_up(source: HubRepository, name: str) -> tuple[Listing, Path]:
    """What the hub says of the repository, and the folder of its config.json.

    No more than that file is downloaded. Raises InvalidRequest where it cannot be used or had, and HubUnreachable
    without a network.
    """
    with _explaining(source.repository, name):
        return _look_up(source, name)


def download(source: HubRepository, name: str, started: Started) -> tuple[Path, dict[str, str]]:
    """The directory of the repository's files, and their SHA-256 by name.

    Downloads missing ones, without a revision the newest. Each file is compared with the digest that the hub
    lists; one that differs is
    downloaded once more. Raises InvalidRequest where the repository cannot be used or had, and HubUnreachable without a
    network.
    """
    with _explaining(source.repository, name):
        return _download(source, name, started)


@contextmanager
def _explaining(repository: str, name: str) -> Iterator[None]:
    try:
        yield
    except TunesmithError:
        raise
    except Exception as error:
        raise _explained(error, repository, name) from error


def _look_up(source: HubRepository, name: str) -> tuple[Listing, Path]:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # ours counts all files together
    info = HfApi().model_info(source.repository, revision=source.revision or None, files_metadata=True)
    sizes = {file.rfilename: _remote(file) for file in info.siblings or ()}
    _check_listing(sizes, name)
    listing = Listing(
        source.repository,
        info.sha or source.revision,
        {file: found for file, found in sizes.items() if _is_wanted(file)},
        _licence(info),
        info.safetensors.total if info.safetensors else None,
    )
    # Of the newest commit the name of its branch is asked for, so that the cache remembers what the branch was.
    wanted = source.revision or None
    folder = Path(snapshot_download(source.repository, revision=wanted, allow_patterns=["config.json"]))
    check_config(folder, name)
    return listing, folder


def _remote(file: "RepoSibling") -> RemoteFile:
    return RemoteFile(file.size or 0, file.lfs.sha256 if file.lfs else "", "" if file.lfs else file.blob_id or "")


def _licence(info: "ModelInfo") -> str | None:
    """The licence in the model card; of one that has no short name, the name that its authors gave it."""
    named = getattr(info.card_data, "license", None)
    named = getattr(info.card_data, "license_name", None) or named if named == "other" else named
    return str(named) if named else None


def _download(source: HubRepository, name: str, started: Started) -> tuple[Path, dict[str, str]]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE

    listing, _ = _look_up(source, name)
    blobs = Path(HF_HUB_CACHE) / f"models--{source.repository.replace('/', '--')}" / "blobs"
    _check_room(listing.size, blobs, name)
    started(blobs, listing.size)
    wrong, digests = "", dict[str, str]()
    for _ in range(2):
        folder = Path(
            snapshot_download(
                source.repository,
                revision=source.revision or None,
                allow_patterns=[*PATTERNS],
                ignore_patterns=[*LEFT_OUT],
            )
        )
        wrong, digests = _compare(folder, listing)
        if not wrong:
            return folder, digests
    raise ServerFault(
        f"{wrong} of {source.repository} came twice with other bytes than the Hugging Face hub lists"
        f" (commit {listing.revision[:12]}), and was removed. Check the network between, such as a proxy or a mirror in"
        f" HF_ENDPOINT, then try again: tunesmith models pull {name}",
        code="base_not_usable",
    )


def _compare(folder: Path, listing: Listing) -> tuple[str, dict[str, str]]:
    """A file whose bytes are not those that are listed, which is removed, or ""; SHA-256 by name."""
    digests = {}
    for file, listed in listing.files.items():
        path = folder / file
        digests[file] = sha256_of(path)
        differs = listed.sha256 not in ("", digests[file]) or (listed.git and listed.git != _git_digest(path))
        if differs:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            return file, {}
    return "", digests


def _git_digest(path: Path) -> str:
    data = path.read_bytes()  # of files that are not in large storage, so at most some megabytes
    return sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _is_wanted(file: str) -> bool:
    return any(fnmatch(file, one) for one in PATTERNS) and not any(fnmatch(file, one) for one in LEFT_OUT)


def _check_listing(files: Collection[str], name: str) -> None:
    """Says what the repository lacks. Raises InvalidRequest."""
    weights = [file for file in files if _is_wanted(file) and file.endswith(".safetensors")]
    missing = [file for file in ("config.json", "tokenizer.json", "tokenizer_config.json") if file not in files]
    if weights and not missing:
        return
    if not weights and any(file.endswith(".gguf") for file in files):
        raise unusable(
            name,
            "its repository has GGUF files only. Take the repository that they were made from, or download one of"
            " them and add that (--from FILE.gguf)",
        )
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
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # its client says of every refusal of a file that it is not in the cache
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
        terms = f"{repository} is gated. Accept its terms at https://huggingface.co/{repository}"
        if error.response.status_code == 403:
            return (
                f"{terms} with the account whose token is used here (hf auth whoami), and wait for its authors' consent"
                " where they give it by hand; a token with limited rights must be allowed to read gated repositories"
            )
        return f"{terms}, then log in here (hf auth login, or HF_TOKEN in the environment)"
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{repository} no longer has the commit that was added. Add the base again:"
            f" tunesmith models add NAME {repository}"
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
