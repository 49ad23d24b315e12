"""Writes docs/settings.md from `tunesmith.settings`: `make docs`. A test keeps the two in step."""

import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from tunesmith.settings import Settings, TrainingOptions
from tunesmith.wire.job_options import wanted

TARGET = Path(__file__).resolve().parents[1] / "docs" / "settings.md"

HEAD = """\
# Settings

<!-- Written by `make docs` from src/tunesmith/settings/; edit a file there instead. -->

Each setting has one name. The first of these that has a value wins: an option of the command, the environment
(`TUNESMITH_PORT=8001`), the file `tunesmith.toml` in the data directory (`port = 8001`), the default. Unknown names in
the file are refused, and so are variables that nearly have a setting's name (`TUNESMITH_PORTT`), so that a typo does
not silently leave the default in place; a command warns of other `TUNESMITH_…` variables. When a setting is renamed,
its old name works for one more release, with a warning.

Two further variables, `TUNESMITH_BASE_URL` and `TUNESMITH_API_KEY`, tell the commands which server to talk to: see
[cli.md](cli.md).
"""
TABLE = "| setting | type | default | |\n| --- | --- | --- | --- |\n"
GROUPS = {  # the first setting of each group -> its heading
    "data_dir": "Data and address",
    "organization": "Models",
    "result_encoding": "Files and jobs",
    "limit_requests_per_minute": "Limits",
    "lease_seconds": "Jobs and training",
    "serve_threads": "Serving",
    "moderation": "Moderation",
    "wandb_api_key": "Weights & Biases",
}

TRAINING = """
## Per job

A job may set its own value, under the key `tunesmith` of its request: see [training.md](training.md).

| setting | may be | default | |
| --- | --- | --- | --- |
"""

DEFAULTS = {  # determined when the program starts
    "data_dir": "the user's data home + `/tunesmith`",
    "cache_dir": "the user's cache home + `/tunesmith`",
}


def reference() -> str:
    """The page as it should be now."""
    of_server = [name for name in Settings.model_fields if name not in TrainingOptions.model_fields]
    rows = "".join(_group(name) + _row(name, _type(name)) for name in of_server)
    return HEAD + rows + TRAINING + "".join(_row(name, wanted(name)) for name in TrainingOptions.model_fields)


def _group(name: str) -> str:
    return f"\n## {GROUPS[name]}\n\n{TABLE}" if name in GROUPS else ""


def _type(name: str) -> str:
    field = Settings.model_fields[name]
    kind = getattr(field.annotation, "__name__", None) if "|" not in str(field.annotation) else None
    kind = kind if kind not in (None, "dict", "Literal") else str(field.annotation)
    return re.sub(r"\b(typing|pathlib|tunesmith\.settings\.\w+)\.", "", kind).replace("|", "\\|")


def _row(name: str, kind: str) -> str:
    field = Settings.model_fields[name]
    default = DEFAULTS.get(name)
    if default is None:
        value = field.get_default(call_default_factory=True)
        default = "" if value is None or value is PydanticUndefined else f"`{value}`"
    if "SecretStr" in kind:
        kind = kind.replace("pydantic.types.SecretStr", "str") + " (secret)"
    return f"| `{name}` | {kind} | {default} | {field.description or ''} |\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
