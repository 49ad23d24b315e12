"""The settings of a command, from the environment, tunesmith.toml and its options."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path

from pydantic import ValidationError

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.output.terminal import warn
from tunesmith.cli.variables import check_variables, nearest
from tunesmith.settings import Settings

_data_dir_option: ContextVar[Path | None] = ContextVar("data_dir_option", default=None)


def load_settings(data_dir: Path | None = None, **overrides: str | int | None) -> Settings:
    """The settings, with those in `overrides` that are not None.

    `data_dir` also goes into the environment, which tunesmith.toml and child processes follow, and so does the cache's
    directory, which compiled code follows.
    Raises CommandError for a wrong value.
    """
    _data_dir_option.set(data_dir)
    if data_dir is not None:
        os.environ["TUNESMITH_DATA_DIR"] = str(data_dir.expanduser().absolute())
    for warning in check_variables(os.environ):
        warn(warning)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise CommandError(_explain(error, given), Exit.USAGE) from error
    except ValueError as error:  # tunesmith.toml that is not TOML
        raise CommandError(f"tunesmith.toml cannot be read: {error}. Fix it or move it away.", Exit.USAGE) from error
    if settings.cache_dir != Settings.model_fields["cache_dir"].get_default(call_default_factory=True):
        os.environ["TUNESMITH_CACHE_DIR"] = str(settings.cache_dir.absolute())
    return settings


def again(command: str) -> str:
    """The `command` as the user must type it, on the same data directory as this one.

    Give it without the program's name: `again("jobs list")`.
    """
    data_dir = _data_dir_option.get()
    option = "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"
    return f"{program()} {command}{option}"


def program() -> str:
    """The name `tunesmith` if the shell finds this program so, else the path called."""
    called, found = Path(sys.argv[0]), shutil.which("tunesmith")
    if called.name != "tunesmith" or (found is not None and Path(found).resolve() == called.resolve()):
        return "tunesmith"
    return str(called)


def _explain(error: ValidationError, options: Mapping[str, object]) -> str:
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        meant = nearest(name, Settings.model_fields)
        cure = "check its spelling" if meant is None else f"did you mean {meant!r}? Correct it"
        return f"There is no setting {name!r}; {cure} in tunesmith.toml. docs/settings.md lists them all."
    if name in options:
        return f"--{name.replace('_', '-')} is {fault['input']!r}: {fault['msg'][:1].lower()}{fault['msg'][1:]}."
    return (
        f"Setting {name} is {fault['input']!r}: {fault['msg'][:1].lower()}{fault['msg'][1:]}."
        f" Correct TUNESMITH_{name.upper()}, or {name} in tunesmith.toml, or unset it."
    )
