"""Where settings come from, and names that were changed.

Arguments, environment, `tunesmith.toml`.
"""

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

import platformdirs
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

log = logging.getLogger(__name__)  # without a handler a warning is one line on standard error

# Earlier names of settings -> today's. Each works for one release, with a warning, and is then removed from here.
OLD_NAMES: Mapping[str, str] = {"serve_drafts": "serve_prompt_lookup"}


def default_data_dir() -> Path:
    """TUNESMITH_DATA_DIR, or the user's data directory of the platform."""
    return Path(os.environ.get("TUNESMITH_DATA_DIR") or platformdirs.user_data_path("tunesmith", appauthor=False))


def with_old_names(
    settings_cls: type[BaseSettings], env_settings: PydanticBaseSettingsSource, old_names: Mapping[str, str]
) -> tuple[PydanticBaseSettingsSource, TomlConfigSettingsSource]:
    """Environment and file, each under old names too."""
    if isinstance(env_settings, EnvSettingsSource):
        prefix = str(settings_cls.model_config.get("env_prefix", "")).lower()
        renamed = {f"{prefix}{old}": f"{prefix}{new}" for old, new in old_names.items()}
        env_settings.env_vars = _under_new_names(env_settings.env_vars, renamed, "environment", str.upper)
    path = default_data_dir() / "tunesmith.toml"
    toml = TomlConfigSettingsSource(settings_cls, toml_file=path)
    toml.init_kwargs = _under_new_names(toml.init_kwargs, old_names, path.name, str)
    return env_settings, toml


Value = TypeVar("Value")


def _under_new_names(
    given: Mapping[str, Value], old_names: Mapping[str, str], where: str, spell: Callable[[str], str]
) -> dict[str, Value]:
    """`given` with old names replaced, each with a warning.

    Where both names are given, the new one's value wins.
    """
    values = dict(given)
    for old, new in old_names.items():
        if old in values:
            _warn_once(
                f"{spell(old)} ({where}) is now called {spell(new)}; the old name stops working in the next release."
            )
            values.setdefault(new, values[old])
            del values[old]
    return values


@cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)
