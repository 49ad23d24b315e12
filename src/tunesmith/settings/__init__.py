"""Every setting, once.

Each has its type, unit, default and one line of help. The first of these that has a value wins: arguments, environment
(`TUNESMITH_PORT=8001`), `tunesmith.toml` in the data directory, the default here. A group of settings is a file;
`Settings` has the fields of all.
"""

from tunesmith.settings.models import OPENAI_MODELS
from tunesmith.settings.serving import LAST_BASE
from tunesmith.settings.settings import Settings, get_settings
from tunesmith.settings.sources import OLD_NAMES, default_data_dir
from tunesmith.settings.training import Resources
from tunesmith.settings.training_options import (
    DEVICES,
    LORA_ONLY,
    MAX_ALPHA,
    TARGET_SETS,
    AdapterKind,
    Quantization,
    Schedule,
    Sharding,
    TrainingOptions,
)

__all__ = [
    "DEVICES",
    "LAST_BASE",
    "LORA_ONLY",
    "MAX_ALPHA",
    "OLD_NAMES",
    "OPENAI_MODELS",
    "TARGET_SETS",
    "AdapterKind",
    "Quantization",
    "Resources",
    "Schedule",
    "Settings",
    "Sharding",
    "TrainingOptions",
    "default_data_dir",
    "get_settings",
]
