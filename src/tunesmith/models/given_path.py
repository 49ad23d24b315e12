"""What to say of a path that was given where the name of a base belongs.

For commands on this machine only: the API says nothing of what lies on the server's disk.
"""

import shlex
from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.models.base_check import check_base
from tunesmith.models.registry import BaseModel, GgufFile, HubRepository, LocalDirectory, name_for


def looks_like_path(given: str) -> bool:
    """Whether `given` is written as a path, wherever it leads."""
    return given in (".", "..", "~") or given.startswith(("/", "./", "../", "~/")) or given.endswith((".gguf", "/"))


def path_instead_of_name(given: str) -> InvalidRequest | None:
    """Why the path `given` is no base yet, and what to do; None for another word."""
    path = Path(given).expanduser()
    if not looks_like_path(given) and not path.is_dir():
        return None
    whole = path.resolve() if ".." in path.parts else path.absolute()
    name = name_for(str(whole))
    if not whole.exists():
        return _not_available(f"There is no file or directory {whole}. Check the path, or give the name of a base.")
    if whole.is_file() and whole.suffix == ".gguf":
        return _not_available(
            f"{whole} is a GGUF file, which can be made a base: tunesmith models add {name} --from"
            f" {shlex.quote(str(whole))}. Then restart a server that is running, and give the name {name}."
        )
    try:
        check_base(whole, name)
    except InvalidRequest as error:
        return InvalidRequest(f"{error.message} ({whole})", param=error.param, code=error.code)
    command = f"tunesmith models add {name} {shlex.quote(str(whole))}"
    return _not_available(
        f"{whole} can be used as a base, but commands take the name of one. Add it: {command}, restart a server that"
        f" is running, and give the name {name}."
    )


def directory_read_otherwise(base: BaseModel) -> Path | None:
    """The directory that the setting `bases` means by a relative path, if any."""
    match base.source:
        case HubRepository(repository):
            path = Path(repository)
        case LocalDirectory(path) | GgufFile(path):
            pass
        case _:
            return None
    return path.absolute() if not path.is_absolute() and path.exists() else None


def _not_available(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="model", code="model_not_available")
