"""The settings of all groups as one object."""

from collections.abc import Mapping
from functools import cache
from typing import ClassVar

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tunesmith.data_paths import Paths
from tunesmith.settings.data import DataSettings
from tunesmith.settings.files import FileSettings
from tunesmith.settings.limits import LimitSettings
from tunesmith.settings.models import ModelSettings
from tunesmith.settings.services import ServiceSettings
from tunesmith.settings.serving import ServingSettings
from tunesmith.settings.sources import OLD_NAMES, with_old_names
from tunesmith.settings.training import Resources, TrainerSettings
from tunesmith.settings.training_options import TrainingOptions


class Settings(  # the fields of the last come first
    ServiceSettings,
    ServingSettings,
    TrainerSettings,
    LimitSettings,
    FileSettings,
    ModelSettings,
    DataSettings,
    BaseSettings,
    TrainingOptions,
):
    """The settings of a server, its worker and every command."""

    model_config = SettingsConfigDict(env_prefix="TUNESMITH_", extra="forbid", frozen=True, defer_build=False)
    old_names: ClassVar[Mapping[str, str]] = OLD_NAMES

    def resources_of(self, base: str) -> Resources:
        """What a job on `base` takes of a cluster's node, unless it says otherwise."""
        return self.ray_resources.get(base) or self.ray_resources.get("*") or Resources.model_validate({})

    def training_options(self) -> TrainingOptions:
        """The options of a job that does not set its own."""
        return TrainingOptions(**self.model_dump(include=set(TrainingOptions.model_fields)))

    @property
    def rate_to_multiply(self) -> float:
        """What a job's learning_rate_multiplier multiplies, for the adapter that is set."""
        return self.full_learning_rate if self.adapter == "none" else self.base_learning_rate

    @property
    def paths(self) -> Paths:
        """The paths below the data directory, with `~` expanded."""
        return Paths(self.data_dir.expanduser())

    @property
    def organization_id(self) -> str:
        """The organization's id, as answers show it."""
        return f"org-{self.organization}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, file; each of the last two under old names too."""
        old_names = getattr(settings_cls, "old_names", OLD_NAMES)
        return init_settings, *with_old_names(settings_cls, env_settings, old_names)


@cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
