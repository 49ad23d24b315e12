"""The launcher that the settings name."""

from collections.abc import Mapping

from tunesmith.launch.protocol import Launcher
from tunesmith.launch.ranks import RanksLauncher
from tunesmith.launch.ray.launcher import RayLauncher, check_launcher
from tunesmith.settings import Settings


def launcher_of(settings: Settings, environment: Mapping[str, str]) -> Launcher:
    """Starts trainers where the setting `launcher` says.

    `environment`: this process's, without secret settings. Raises InvalidRequest where that cannot work.
    """
    check_launcher(settings)
    return RanksLauncher(settings.train_ranks) if settings.launcher == "child" else RayLauncher(settings, environment)
