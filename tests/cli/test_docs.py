"""docs/cli.md and docs/settings.md are what the commands and settings say of themselves. After a change: make docs."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from tunesmith.cli.app import app
from tunesmith.settings import Settings, TrainingOptions

REPOSITORY = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "document"), [("cli_reference", "cli.md"), ("settings_reference", "settings.md")])
def test_reference_is_up_to_date(name: str, document: str) -> None:
    written = (REPOSITORY / "docs" / document).read_text("utf-8")
    assert script(name).reference() == written, "run: make docs"


def test_cli_reference_covers_groups_options_and_exit_codes() -> None:
    reference = script("cli_reference").reference()
    for expected in ("tunesmith jobs resume JOB", "`--exit-when-idle`", "`--lr-multiplier`", "| 130 |"):
        assert expected in reference


def test_defaults_in_the_help_are_those_of_the_settings() -> None:
    parameters = {one.name: one for one in typer.main.get_command(app).commands["train"].params}  # type: ignore[attr-defined]
    for name, value in ((name, field.default) for name, field in TrainingOptions.model_fields.items()):
        shown = "twice the rank" if name == "lora_alpha" else str(value)
        assert parameters[name].show_default == shown, name
    assert Settings.model_fields["base_model"].default in parameters["model"].show_default
    assert Settings.model_fields["lora_alpha"].default == 2 * Settings.model_fields["lora_rank"].default


def test_settings_reference_names_every_setting_with_help() -> None:
    rows = [line for line in script("settings_reference").reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 20
    assert not [row for row in rows if row.endswith("|  |")]
