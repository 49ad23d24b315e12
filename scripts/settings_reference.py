"""Writes docs/settings.md from `tunesmith.settings`: `make docs`. A test keeps the two in step."""

from pathlib import Path

from pydantic_core import PydanticUndefined

from tunesmith.settings import Settings, TrainingOptions

TARGET = Path(__file__).resolve().parents[1] / "docs" / "settings.md"

HEAD = """\
# Settings

<!-- Written by `make docs` from src/tunesmith/settings.py; edit that file instead. -->

Each setting has one name. The first of these that has a value wins: an option of the command, the environment
(`TUNESMITH_PORT=8001`), the file `tunesmith.toml` in the data directory (`port = 8001`), the default. Unknown names in
the file are refused, so that a typo does not silently leave the default in place. When a setting is renamed, its old
name works for one more release, with a warning.

Two further variables, `TUNESMITH_BASE_URL` and `TUNESMITH_API_KEY`, tell the commands which server to talk to: see
[cli.md](cli.md).

| setting | type | default | |
| --- | --- | --- | --- |
"""

TRAINING = """
## Per job

A job may set its own value, under the key `tunesmith` of its request: see [training.md](training.md).

| setting | type | default | |
| --- | --- | --- | --- |
"""

DEFAULTS = {  # determined when the program starts
    "data_dir": "the user's data home + `/tunesmith`",
    "cache_dir": "the user's cache home + `/tunesmith`",
    "aliases": "see `tunesmith models list`",
}


def reference() -> str:
    own = "".join(_row(name) for name in TrainingOptions.model_fields)
    return (
        HEAD
        + "".join(_row(name) for name in Settings.model_fields if name not in TrainingOptions.model_fields)
        + TRAINING
        + own
    )


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    kind = getattr(field.annotation, "__name__", None) if "|" not in str(field.annotation) else None
    kind = kind if kind not in (None, "dict", "Literal") else str(field.annotation)
    default = DEFAULTS.get(name)
    if default is None:
        value = field.get_default(call_default_factory=True)
        default = "" if value is None or value is PydanticUndefined else f"`{value}`"
    if "SecretStr" in kind:
        kind = kind.replace("pydantic.types.SecretStr", "str") + " (secret)"
    kind = kind.replace("typing.", "").replace("pathlib.", "").replace("|", "\\|")
    return f"| `{name}` | {kind} | {default} | {field.description or ''} |\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
